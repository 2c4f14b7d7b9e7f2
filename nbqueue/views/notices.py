"""Notices on cards and pages: why nothing happens, with the commands that change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from markupsafe import Markup

from nbqueue.views.format import CARD, badge
from nbqueue.views.html import code, element, join, text

_MOST = 4


class Notice(Protocol):
    """A sentence and the way out; commands in them stand between backticks."""

    @property
    def sentence(self) -> str: ...
    @property
    def remedy(self) -> str: ...


def notices_html(notices: Iterable[Notice]) -> list[Markup]:
    """Return a box for each notice; the first few are enough."""
    colour = badge("paused").colour
    style = (
        f"margin:4px 0;padding:4px 10px;border-left:3px solid {colour};background:{CARD};"
        "overflow-wrap:anywhere"
    )
    return [
        element(
            "div",
            element("div", with_code(each.sentence)),
            element("div", with_code(each.remedy)) if each.remedy else Markup(),
            role="status",
            style=style,
        )
        for each in list(notices)[:_MOST]
    ]


def notices_text(notices: Iterable[Notice]) -> list[str]:
    """Return a line of text for each notice."""
    return [
        f"  ! {each.sentence}" + (f": {each.remedy}" if each.remedy else "")
        for each in list(notices)[:_MOST]
    ]


def with_code(line: str) -> Markup:
    """Return a line as HTML, with what stands between backticks as code."""
    parts = line.split("`")
    return join([code(part) if i % 2 else text(part) for i, part in enumerate(parts)])
