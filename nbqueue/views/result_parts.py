"""The result of a task as HTML: text, a picture, or HTML in a sandbox."""

from __future__ import annotations

import base64
from typing import Final

from markupsafe import Markup, escape

from nbqueue.printable import without_controls
from nbqueue.tasks.result_preview import ResultPreview
from nbqueue.views import html as h
from nbqueue.views.format import LINE

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{margin:4px;font:13px/1.4 system-ui,sans-serif;background:Canvas;color:CanvasText}"
    "table{border-collapse:collapse;border:none;font-size:12px}"
    "th,td{border:none;padding:3px 8px;text-align:right;vertical-align:top}"
    "thead th{border-bottom:1px solid GrayText}"
    "tbody tr:nth-child(odd){background:rgba(127,127,127,.12)}"
)
_HEAD: Final = (
    '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style>'
)
_ROW_HEIGHT = 24
_LEAST_HEIGHT, _USUAL_HEIGHT, _MOST_HEIGHT = 60, 160, 320


def result_parts(shown: ResultPreview, *, is_named: bool = True) -> list[Markup]:
    """Return a result as parts of a card: its summary, and what there is to see.

    ``is_named``: the summary begins with the word "result".
    """
    summary = h.code(shown.summary)
    parts = [h.row(h.fact("result", summary) if is_named else summary)]
    if shown.png:
        return [*parts, _picture(shown)]
    if shown.html:
        return [*parts, sandbox(shown.html, title=f"result: {shown.summary}")]
    return [*parts, h.pre(shown.text, height=200)] if shown.text else parts


def sandbox(html: str, *, title: str) -> Markup:
    """Return HTML of a stranger in a frame that runs no scripts, loads nothing and has no origin.

    A frame cannot fit its content without scripts, so its height is estimated from the rows.
    """
    rows = html.count("<tr")
    height = min(max((rows + 1) * _ROW_HEIGHT, _LEAST_HEIGHT), _MOST_HEIGHT)
    style = (
        f"display:block;width:100%;height:{height if rows else _USUAL_HEIGHT}px;margin:6px 0;"
        f"border:1px solid {LINE};border-radius:4px;resize:vertical;box-sizing:border-box"
    )
    # Not `printable`, which would write out the joiners of scripts and emoji in the frame.
    document = escape(without_controls(_HEAD + html))
    return h.element("iframe", sandbox="", srcdoc=document, title=title, style=style)


def _picture(shown: ResultPreview) -> Markup:
    style = "display:block;max-width:100%;height:auto;margin:6px 0;border-radius:4px"
    source = f"data:image/png;base64,{base64.b64encode(shown.png).decode()}"
    return h.element("img", src=source, alt=f"result: {shown.summary}", style=style)
