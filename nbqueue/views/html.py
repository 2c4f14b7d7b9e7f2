"""HTML elements of every view: cards, rows, badges, bars, tables. Pure functions.

HTML is `markupsafe.Markup`. Every other string is text: `text` makes it printable and escapes it,
and `element` passes all content and attributes through `text`. Nothing else puts HTML together.

The HTML is self-contained: styles are inline, with JupyterLab's variables and values for pages that
lack them; no script, no ``<style>``, no ``id``. It looks alike live, saved in a notebook, and on a
page that strips what it does not trust. Buttons and fields of live views: `nbqueue.views.controls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Final

from markupsafe import Markup, escape

from nbqueue.clock import from_ms
from nbqueue.printable import printable
from nbqueue.views import format as fmt
from nbqueue.views.format import BAD, CARD, INK, LINE, PALE_INK, SHADE

FONT: Final = "var(--jp-ui-font-family, system-ui, sans-serif)"
CODE: Final = "var(--jp-code-font-family, ui-monospace, monospace)"
NOTHING: Final = Markup()

Content = str | Markup
"""Text or HTML. A type checker sees `str`; functions that place HTML only take `Markup`."""

# Notebooks set "$5 and $6" in HTML as a formula elsewhere: with MathJax 3 or later, and 2.
_NO_FORMULAS: Final = {"class": "mathjax_ignore tex2jax_ignore"}
_VOID: Final = frozenset({"img", "input"})


# --- Text and elements ---------------------------------------------------------------------------


def text(content: Content) -> Markup:
    """Return text as HTML, printable and escaped. HTML stays as it is."""
    if isinstance(content, Markup):
        return content
    return escape(printable(content, lines=True))


def exact(value: str) -> Markup:
    """Return an attribute's value as HTML, for values that the page sends back unchanged."""
    return escape(value.encode("utf-8", "backslashreplace").decode())


def element(tag: str, /, *content: Content, **attributes: Content | bool | None) -> Markup:
    """Return an element. ``data_args`` is the attribute ``data-args``.

    An attribute that is None or False is left out; True stands for one without a value.

    >>> element("b", "a < b", title='"x"', hidden=True)
    Markup('<b title="&#34;x&#34;" hidden>a &lt; b</b>')
    """
    head = "".join([_attribute(name, value) for name, value in attributes.items()])
    inside = "".join([text(part) for part in content])
    end = "" if tag in _VOID else f"</{tag}>"
    return Markup(f"<{tag}{head}>{inside}{end}")  # noqa: S704 (`text` made each part)


def _attribute(name: str, value: Content | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'


def join(parts: Iterable[Content], separator: Content = NOTHING) -> Markup:
    """Return parts one after the other."""
    return text(separator).join([text(part) for part in parts])


# --- Boxes and words -----------------------------------------------------------------------------


def card(*parts: Markup, label: str, wide: bool = False) -> Markup:
    """Return a box around ``parts``.

    ``label`` names it to a screen reader; a ``wide`` card takes the whole width.
    """
    style = (
        f"box-sizing:border-box;max-width:{'none' if wide else '900px'};margin:4px 0;"
        f"padding:10px 14px;border:1px solid {LINE};border-radius:6px;background:{CARD};"
        f"color:{INK};font-family:{FONT};font-size:13px;line-height:1.5;"
        "font-variant-numeric:tabular-nums"
    )
    return element("div", *parts, role="group", aria_label=label, style=style, **_NO_FORMULAS)


def row(*parts: Content, gap: int = 12, wraps: bool = True) -> Markup:
    """Return parts side by side, without empty ones.

    A row wraps if the room is too small.
    """
    style = (
        f"display:flex;flex-wrap:{'wrap' if wraps else 'nowrap'};align-items:center;"
        f"gap:4px {gap}px;margin:4px 0"
    )
    return element("div", *(element("div", part) for part in parts if part), style=style)


def keyed(key: str, *parts: Content) -> Markup:
    """Return a part of a live view with a name: it is never made from a part of another name."""
    return element("div", *parts, data_key=key)


def unbroken(*parts: Content) -> Markup:
    """Return parts that stay together on one line."""
    inside = join([part for part in parts if part], " ")
    return element("span", inside, style="white-space:nowrap")


def strong(content: Content) -> Markup:
    """Return bold text."""
    return element("span", content, style="font-weight:600")


def pale(content: Content, title: str = "") -> Markup:
    """Return text that matters less, with an optional tooltip."""
    return element("span", content, style=f"color:{PALE_INK}", title=title or None)


def titled(content: Content, title: str) -> Markup:
    """Return text with a tooltip."""
    return element("span", content, title=title)


def fact(name: str, value: Content) -> Markup:
    """Return a pale name and its value."""
    return join([pale(name), value], " ")


def code(content: str) -> Markup:
    """Return text in the font of code."""
    style = (
        f"font-family:{CODE};font-size:12px;background:{SHADE};color:{INK};padding:1px 4px;"
        "border-radius:3px"
    )
    return element("code", content, style=style)


def pre(content: Content, *, height: int = 260, follows: bool = False) -> Markup:
    """Return lines of output or of a traceback, in a box that scrolls.

    In a live view a box that ``follows`` opens at its end, and stays there unless it is scrolled.
    """
    style = (
        f"margin:6px 0;padding:8px 10px;max-height:{height}px;overflow:auto;background:{SHADE};"
        f"color:{INK};border-radius:4px;font-family:{CODE};font-size:12px;line-height:1.4;"
        "white-space:pre-wrap"
    )
    return element("pre", content, tabindex="0", data_follow=follows, style=style)


def folded(summary: str, content: Markup) -> Markup:
    """Return content that is hidden until its summary is clicked."""
    head = element("summary", summary, style=f"color:{PALE_INK};cursor:pointer")
    return element("details", head, content)


def problem(content: str) -> Markup:
    """Return an error, with a red edge."""
    style = (
        f"margin:4px 0;padding:4px 10px;border-left:3px solid {BAD};background:{SHADE};"
        "overflow-wrap:anywhere"
    )
    return element("div", content, style=style)


def announcement(content: str) -> Markup:
    """Return text that a screen reader speaks when it changes, and that is not seen."""
    style = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"
    return element("div", content, aria_live="polite", style=style)


# --- States and times ----------------------------------------------------------------------------


def badge(state: str) -> Markup:
    """Return a state as glyph, word and coloured border."""
    glyph, colour = fmt.badge(state)
    sign = element("span", glyph, aria_hidden="true", style=f"color:{colour}")
    style = (
        f"display:inline-block;border:1px solid {colour};border-radius:9px;padding:0 8px;"
        f"line-height:1.5;white-space:nowrap;color:{INK}"
    )
    return element("span", sign, " ", state, style=style)


def time(unix_ms: int | None, now_ms: int | None = None, tz: tzinfo | None = None) -> Markup:
    """Return a moment as `fmt.zoned_time` does; a dash for None. The tooltip has the day.

    Without ``tz`` in local time; a live view then shows it in the zone of the browser.
    """
    if unix_ms is None:
        return text("–")
    return element(
        "time",
        fmt.zoned_time(unix_ms, tz, now_ms=now_ms),
        datetime=from_ms(unix_ms).isoformat(),
        title=fmt.zoned_time(unix_ms, tz, offset=True),
        data_local=None if tz is not None else "day" if now_ms is None else "clock",
    )


# --- Bars and tables -----------------------------------------------------------------------------


def bar(done: float, total: float | None, *, label: str, state: str = "active") -> Markup:
    """Return a progress bar. Without ``total`` it is empty: the length is unknown."""
    return stacked_bar([(state, done)], total, label=label)


def stacked_bar(
    parts: Iterable[tuple[str, float]], total: float | None, *, label: str, height: int = 8
) -> Markup:
    """Return a progress bar with a colour for each (state, amount) of ``parts``."""
    parts = list(parts)
    pieces = [
        element(
            "span",
            style=f"display:block;width:{100 * amount / total:.2f}%;"
            f"background:{fmt.badge(state).colour}",
        )
        for state, amount in parts
        if total and amount
    ]
    style = (
        f"display:flex;height:{height}px;margin:6px 0;border-radius:{height // 2}px;"
        f"overflow:hidden;background:{SHADE};box-shadow:inset 0 0 0 1px {LINE}"
    )
    return element(
        "div",
        *pieces,
        role="progressbar",
        aria_label=label,
        aria_valuemin="0",
        aria_valuenow=f"{sum(amount for _, amount in parts):g}",
        aria_valuemax=f"{total:g}" if total else None,
        style=style,
    )


def table(
    heads: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    *,
    caption: str,
    numeric: Iterable[int] = (),
    keys: Sequence[str] | None = None,
    sorts: Mapping[int, str] | None = None,
    titles: Mapping[int, str] | None = None,
) -> Markup:
    """Return a table. Columns at the positions ``numeric`` are aligned to the right.

    ``keys`` name the rows, so that a live view moves rows rather than rewriting them. ``sorts``
    has the order (``ascending`` or ``descending``) of the column by which the rows are sorted, and
    ``titles`` the titles that a narrow live view repeats in cells.
    """
    right, sorts, titles = set(numeric), sorts or {}, titles or {}
    head_row = element(
        "tr", *(_head(head, i in right, sorts.get(i)) for i, head in enumerate(heads))
    )
    body = [
        element(
            "tr",
            *(_cell(cell, i in right, titles.get(i)) for i, cell in enumerate(cells)),
            data_key=None if keys is None else keys[number],
        )
        for number, cells in enumerate(rows)
    ]
    caption_style = f"caption-side:top;text-align:left;color:{PALE_INK};padding:2px 0"
    style = (
        "border-collapse:collapse;width:100%;table-layout:auto;font-size:13px;margin:4px 0;"
        "border:none"
    )
    found = element(
        "table",
        element("caption", caption, style=caption_style),
        element("thead", head_row),
        element("tbody", *body),
        style=style,
    )
    return element("div", found, style="overflow-x:auto")


def _head(content: Content, is_right: bool, order: str | None) -> Markup:
    style = (
        f"text-align:{'right' if is_right else 'left'};padding:4px 10px 4px 0;font-weight:600;"
        f"border-bottom:1px solid {LINE};white-space:nowrap;background:{CARD};color:{INK}"
    )
    return element("th", content, scope="col", aria_sort=order, style=style)


def _cell(content: Content, is_right: bool, title: str | None) -> Markup:
    style = (
        f"text-align:{'right' if is_right else 'left'};padding:3px 10px 3px 0;"
        f"vertical-align:middle;border-bottom:1px solid {LINE};background:{CARD};color:{INK}"
    )
    return element("td", content, data_title=title, style=style)
