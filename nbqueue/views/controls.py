"""Buttons and fields of live views. Pure functions.

Each names an action, with arguments as JSON: when the control is pressed or changed, its view's
``act(action, args)`` runs. ``label`` describes the control to a screen reader, and is its tooltip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from nbqueue.views.format import CARD, INK, LINE, SHADE
from nbqueue.views.html import element, exact

Args = Mapping[str, Any]

_BOX = (
    f"font:inherit;color:{INK};background:{SHADE};border:1px solid {LINE};border-radius:4px;"
    "padding:2px 10px;white-space:nowrap;"
)
"""The style of a button, but for its cursor."""

_BELL = (
    "M8 16a2 2 0 0 0 2-2H6a2 2 0 0 0 2 2zM9 2a1 1 0 1 0-2 0C4.7 2.5 3.5 4.5 3.5 7c0 3-1 4-1.5 5"
    "h12c-.5-1-1.5-2-1.5-5 0-2.5-1.2-4.5-3.5-5z"
)


def button(
    word: str,
    action: str,
    *,
    label: str,
    args: Args | None = None,
    ask: str = "",
    disabled: bool = False,
) -> Markup:
    """Return a button. With ``ask`` the first press asks that question, in place."""
    style = _BOX + ("opacity:0.5;cursor:default" if disabled else "cursor:pointer")
    return element(
        "button",
        word,
        type="button",
        data_action=action,
        data_args=_json(args),
        data_ask=ask or None,
        disabled=disabled,
        aria_label=label,
        title=label,
        style=style,
    )


def copy_button(word: str, content: str, *, label: str) -> Markup:
    """Return a button that copies ``content`` to the clipboard, without asking the kernel."""
    return element(
        "button",
        word,
        type="button",
        data_copy=content,
        aria_label=label,
        title=label,
        style=f"{_BOX}cursor:pointer",
    )


def bell_button(label: str) -> Markup:
    """Return the button with which a page notifies of the end of the view's work.

    The page draws its state, and asks the browser for permission: it works while a cell runs.
    """
    bell = element(
        "svg",
        element("path", d=_BELL, fill="currentColor"),
        viewBox="0 0 16 16",
        width="12",
        height="12",
        aria_hidden="true",
        style="vertical-align:-1px;margin-right:5px",
    )
    return element(
        "button",
        bell,
        element("span", "Notify me"),
        type="button",
        data_bell=True,
        aria_label=label,
        aria_pressed="false",
        title=label,
        style=f"{_BOX}cursor:pointer",
    )


def link(word: str, action: str, *, label: str, args: Args | None = None) -> Markup:
    """Return a button that looks like a link, for going somewhere."""
    style = (
        f"font:inherit;color:{INK};background:none;border:none;padding:0;"
        "text-decoration:underline dotted;text-underline-offset:3px;cursor:pointer"
    )
    return element(
        "button",
        word,
        type="button",
        data_action=action,
        data_args=_json(args),
        aria_label=label,
        title=label,
        style=style,
    )


def sort_button(title: str, order: str, *, args: Args) -> Markup:
    """Return the title of a column as a button, with an arrow if the rows have an ``order``."""
    arrow = {"ascending": "▲", "descending": "▼"}.get(order, "")
    sign = element("span", f" {arrow}", aria_hidden="true") if arrow else ""
    style = (
        f"font:inherit;font-weight:600;color:{INK};background:none;border:none;padding:0;"
        "cursor:pointer;white-space:nowrap"
    )
    label = f"Sort by {title}"
    return element(
        "button",
        title,
        sign,
        type="button",
        data_action="sort",
        data_args=_json(args),
        aria_label=label,
        title=label,
        style=style,
    )


def tab_button(name: str, *, is_open: bool, edge: str) -> Markup:
    """Return the button of a tab, with an edge of this colour if it is open."""
    style = (
        f"font:inherit;font-weight:{'600' if is_open else '400'};color:{INK};"
        f"background:transparent;border:none;border-bottom:3px solid "
        f"{edge if is_open else 'transparent'};padding:4px 12px;cursor:pointer"
    )
    return element(
        "button",
        name,
        type="button",
        role="tab",
        aria_selected=str(is_open).lower(),
        data_action="tab",
        data_args=_json({"name": name}),
        style=style,
    )


def field(
    value: str,
    action: str,
    *,
    label: str,
    placeholder: str = "",
    width: int = 160,
    args: Args | None = None,
    as_typed: bool = False,
) -> Markup:
    """Return a text field. Its action gets the new text as the argument ``value``.

    The text is sent at Enter and when the field is left, with ``as_typed`` at each pause, too.
    """
    style = (
        f"font:inherit;color:{INK};background:{CARD};border:1px solid {LINE};border-radius:4px;"
        f"padding:2px 8px;width:{width}px;max-width:100%"
    )
    return element(
        "input",
        type="text",
        value=exact(value),
        data_change=action,
        data_as_typed=as_typed,
        data_args=_json(args),
        aria_label=label,
        placeholder=placeholder,
        style=style,
    )


def choice(value: str, options: Sequence[tuple[str, str]], action: str, *, label: str) -> Markup:
    """Return a list of (value, text) to choose from. Its action gets the ``value`` chosen."""
    items = [
        element("option", text, value=exact(key), selected=key == value) for key, text in options
    ]
    style = (
        f"font:inherit;color:{INK};background:{CARD};border:1px solid {LINE};border-radius:4px;"
        "padding:2px 6px;max-width:100%"
    )
    return element("select", *items, data_change=action, aria_label=label, style=style)


def checkbox(is_on: bool, action: str, *, label: str, args: Args | None = None) -> Markup:
    """Return a checkbox. Its action gets the argument ``value``, a bool."""
    return element(
        "input",
        type="checkbox",
        data_change=action,
        data_args=_json(args),
        aria_label=label,
        checked=is_on,
    )


def _json(args: Args | None) -> Markup:
    return exact(json.dumps(dict(args or {})))
