"""Pieces of HTML that every view is made of: cards, bars, tables, buttons. Pure.

What comes out is self-contained: styles are inline, with JupyterLab's variables and values for
pages that lack them; no script, no ``<style>``, no ``id``. So it looks the same live, saved in a
notebook and stripped by a page that trusts nobody. Only live views have buttons and fields.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbqueue.printable import escape
from nbqueue.views.format import BAD, BUSY, CARD, GOOD, INK, LINE, PALE_INK, SHADE, STILL, WARN

FONT = "var(--jp-ui-font-family, system-ui, sans-serif)"
CODE = "var(--jp-code-font-family, ui-monospace, monospace)"


class Html(str):
    """Text that is HTML, where text that is not would be expected."""


def card(*parts: str, label: str, wide: bool = False) -> str:
    """A box around ``parts``. ``label`` names it to a screen reader; a ``wide`` one takes all the
    room that there is."""
    width = "none" if wide else "900px"
    return (
        f'<div role="group" aria-label="{escape(label)}" style="box-sizing:border-box;'
        f"max-width:{width};margin:4px 0;padding:10px 14px;border:1px solid {LINE};"
        f"border-radius:6px;background:{CARD};color:{INK};font-family:{FONT};font-size:13px;"
        f'line-height:1.5;font-variant-numeric:tabular-nums">{"".join(parts)}</div>'
    )


def row(*parts: str, gap: int = 12, wraps: bool = True) -> str:
    """Parts beside each other, which wrap where there is no room, unless told not to."""
    cells = "".join(f"<div>{part}</div>" for part in parts if part)
    wrap = "wrap" if wraps else "nowrap"
    return (
        f'<div style="display:flex;flex-wrap:{wrap};align-items:center;gap:4px {gap}px;'
        f'margin:4px 0">{cells}</div>'
    )


def close(*parts: str) -> str:
    """Parts that stay together on one line."""
    return f'<span style="white-space:nowrap">{" ".join(part for part in parts if part)}</span>'


def strong(text: str) -> str:
    return f'<span style="font-weight:600">{escape(text)}</span>'


def pale(text: str, title: str = "") -> str:
    """Text that matters less. ``title`` is its tooltip."""
    hint = f' title="{escape(title)}"' if title else ""
    return f'<span style="color:{PALE_INK}"{hint}>{escape(text)}</span>'


def titled(text: str, title: str) -> str:
    """Text with a tooltip."""
    return f'<span title="{escape(title)}">{escape(text)}</span>'


def fact(name: str, value_html: str) -> str:
    """A pale name and its value, which is HTML."""
    return f'<span style="color:{PALE_INK}">{escape(name)}</span> {value_html}'


def code(text: str) -> str:
    return (
        f'<code style="font-family:{CODE};font-size:12px;background:{SHADE};color:{INK};'
        f'padding:1px 4px;border-radius:3px">{escape(text)}</code>'
    )


def pre(text: str, *, height: int = 260) -> str:
    """Lines of output or of a traceback, in a box that scrolls."""
    return (
        f'<pre tabindex="0" style="margin:6px 0;padding:8px 10px;max-height:{height}px;'
        f"overflow:auto;background:{SHADE};color:{INK};border-radius:4px;font-family:{CODE};"
        f'font-size:12px;line-height:1.4;white-space:pre-wrap">{escape(text)}</pre>'
    )


def problem(text: str) -> str:
    """An error: a red edge, and words that can be read."""
    return (
        f'<div style="margin:4px 0;padding:4px 10px;border-left:3px solid {BAD};'
        f'background:{SHADE};overflow-wrap:anywhere">{escape(text)}</div>'
    )


_COLOURS = {
    "completed": GOOD,
    "failed": BAD,
    "cancelled": WARN,
    "active": BUSY,
    "retry": WARN,
    "pending": STILL,
}


def bar(done: float, total: float | None, *, label: str, state: str = "active") -> str:
    """How far something is. A bar without ``total`` only says that something goes on."""
    return stacked_bar([(state, done)], total, label=label)


def stacked_bar(
    parts: Iterable[tuple[str, float]], total: float | None, *, label: str, height: int = 8
) -> str:
    """How far something is, with a colour for each (word, amount) of ``parts``."""
    parts = list(parts)
    done = sum(amount for _, amount in parts)
    pieces = "".join(
        f'<span style="display:block;width:{100 * amount / total:.2f}%;'
        f'background:{_COLOURS.get(word, BUSY)}"></span>'
        for word, amount in parts
        if total and amount
    )
    values = f'aria-valuemin="0" aria-valuenow="{done:g}"'
    if total:
        values += f' aria-valuemax="{total:g}"'
    return (
        f'<div role="progressbar" aria-label="{escape(label)}" {values} style="display:flex;'
        f"height:{height}px;margin:6px 0;border-radius:{height // 2}px;overflow:hidden;"
        f'background:{SHADE};box-shadow:inset 0 0 0 1px {LINE}">{pieces}</div>'
    )


def button(word: str, action: str, *, label: str, args: Mapping[str, Any] | None = None,
           ask: str = "", disabled: bool = False) -> str:  # fmt: skip
    """A button of a live view: pressed, its view's ``act(action, args)`` runs.

    ``label`` says what it does to what, to a screen reader and as a tooltip. With ``ask`` the first
    press only asks that question, in place, and the second one does it.
    """
    data = escape(json.dumps(dict(args or {})), quote=True)
    more = f' data-ask="{escape(ask)}"' if ask else ""
    more += " disabled" if disabled else ""
    look = "opacity:0.5;cursor:default" if disabled else "cursor:pointer"
    return (
        f'<button type="button" data-action="{escape(action)}" data-args="{data}"{more} '
        f'aria-label="{escape(label)}" title="{escape(label)}" style="font:inherit;color:{INK};'
        f"background:{SHADE};border:1px solid {LINE};border-radius:4px;padding:2px 10px;"
        f'white-space:nowrap;{look}">{escape(word)}</button>'
    )


def link(word: str, action: str, *, label: str, args: Mapping[str, Any] | None = None) -> str:
    """A button that looks like a word, for going somewhere."""
    data = escape(json.dumps(dict(args or {})), quote=True)
    return (
        f'<button type="button" data-action="{escape(action)}" data-args="{data}" '
        f'aria-label="{escape(label)}" title="{escape(label)}" style="font:inherit;color:{INK};'
        "background:none;border:none;padding:0;text-decoration:underline dotted;"
        f'text-underline-offset:3px;cursor:pointer">{escape(word)}</button>'
    )


def field(
    value: str,
    action: str,
    *,
    label: str,
    placeholder: str = "",
    width: int = 160,
    args: Mapping[str, Any] | None = None,
) -> str:
    """A field of a live view: when it changed, its view's ``act(action, {…args, "value": …})``
    runs."""
    data = escape(json.dumps(dict(args or {})), quote=True)
    return (
        f'<input type="text" value="{html.escape(value)}" data-change="{escape(action)}" '
        f'data-args="{data}" '
        f'aria-label="{escape(label)}" placeholder="{escape(placeholder)}" '
        f'style="font:inherit;color:{INK};background:{CARD};border:1px solid {LINE};'
        f'border-radius:4px;padding:2px 8px;width:{width}px;max-width:100%">'
    )


def choice(value: str, options: Sequence[tuple[str, str]], action: str, *, label: str) -> str:
    """A list of (value, text) to choose from; as `field`."""
    items = "".join(
        f'<option value="{html.escape(key)}"{" selected" if key == value else ""}>{escape(text)}'
        "</option>"
        for key, text in options
    )
    return (
        f'<select data-change="{escape(action)}" aria-label="{escape(label)}" style="font:inherit;'
        f"color:{INK};background:{CARD};border:1px solid {LINE};border-radius:4px;"
        f'padding:2px 6px;max-width:100%">{items}</select>'
    )


def check(is_on: bool, action: str, *, label: str, args: Mapping[str, Any] | None = None) -> str:
    """A box to tick; ``act(action, {…args, "value": bool})``."""
    data = escape(json.dumps(dict(args or {})), quote=True)
    return (
        f'<input type="checkbox" data-change="{escape(action)}" data-args="{data}" '
        f'aria-label="{escape(label)}"{" checked" if is_on else ""}>'
    )


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    numeric: Iterable[int] = (),
) -> str:
    """A table. Cells are HTML; heads are text, unless they say that they are `Html`. Columns of
    the positions ``numeric`` stand at the right."""
    right = set(numeric)

    def align(position: int) -> str:
        return "right" if position in right else "left"

    top = "".join(
        f'<th scope="col" style="text-align:{align(i)};padding:4px 10px 4px 0;font-weight:600;'
        f'border-bottom:1px solid {LINE};white-space:nowrap;background:{CARD};color:{INK}">'
        f"{head if isinstance(head, Html) else escape(head)}</th>"
        for i, head in enumerate(heads)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{align(i)};padding:3px 10px 3px 0;vertical-align:middle;'
            f'border-bottom:1px solid {LINE};background:{CARD};color:{INK}">{cell}</td>'
            for i, cell in enumerate(cells)
        )
        + "</tr>"
        for cells in rows
    )
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;width:100%;'
        "table-layout:auto;"
        'font-size:13px;margin:4px 0;border:none"><caption style="caption-side:top;'
        f'text-align:left;color:{PALE_INK};padding:2px 0">{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def spoken(text: str) -> str:
    """Said by a screen reader when it changes, and not seen."""
    return (
        '<div aria-live="polite" style="position:absolute;width:1px;height:1px;overflow:hidden;'
        f'clip-path:inset(50%)">{escape(text)}</div>'
    )
