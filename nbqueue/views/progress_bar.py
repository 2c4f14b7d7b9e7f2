"""The progress that a task reported, as text and as HTML. Pure functions.

Progress is the value of the task's field ``nbq:progress``: ``{"bars": [{"desc", "n", "total",
"unit", "rate"}, …], "fields": {name: value, …}}``. User code wrote it, so any part may be missing
or of another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from nbqueue.views import format as fmt
from nbqueue.views import html as h

_MOST_BARS = 6
_MOST_FIELDS = 8


def bars_html(progress: Mapping[str, Any], *, end: str = "") -> Markup:
    """Return each bar with its amount, speed and remaining time, then the reported fields.

    ``end`` is the state of a task that has ended; its bars have the colour of that.
    """
    parts = []
    for bar in _bars(progress):
        n, total = _amount(bar.get("n")) or 0.0, _amount(bar.get("total"))
        desc = str(bar.get("desc") or "")
        parts.append(h.bar(n, total, label=desc or "progress", state=end or "active"))
        facts: list[h.Content] = [_of(n, total, str(bar.get("unit") or ""))]
        if desc:
            facts.insert(0, h.strong(fmt.shortened(desc, 60)))
        facts += [h.pale(text) for text in _speed(bar, n, total, bool(end))]
        parts.append(h.row(*facts))
    fields = _fields(progress)
    if fields:
        parts.append(h.row(*(h.fact(name, value) for name, value in fields)))
    return h.join(parts)


def bars_text(progress: Mapping[str, Any]) -> list[str]:
    """Return each bar, and then each reported field, in words."""
    found = []
    for bar in _bars(progress):
        n, total = _amount(bar.get("n")) or 0.0, _amount(bar.get("total"))
        desc = f"{bar['desc']} " if bar.get("desc") else ""
        found.append(desc + _of(n, total, str(bar.get("unit") or "")))
    return found + [f"{name}={value}" for name, value in _fields(progress)]


def _bars(progress: Mapping[str, Any]) -> list[dict[str, Any]]:
    bars = progress.get("bars")
    found = bars if isinstance(bars, list) else []
    return [bar for bar in found if isinstance(bar, dict)][:_MOST_BARS]


def _fields(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    fields = progress.get("fields")
    if not isinstance(fields, dict):
        return []
    return [(str(name), _value(value)) for name, value in list(fields.items())[:_MOST_FIELDS]]


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else fmt.shortened(str(value), 40)


def _amount(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e300
    return float(value) if good else None


def _of(n: float, total: float | None, unit: str) -> str:
    amount = _number(n) if total is None else f"{_number(n)} of {_number(total)}"
    if total:
        amount += f" ({100 * n / total:.0f}%)"
    return amount if unit in ("", "it") else f"{amount} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


def _speed(bar: Mapping[str, Any], n: float, total: float | None, is_over: bool) -> list[str]:
    rate = _amount(bar.get("rate"))
    if not rate or is_over:
        return []
    found = [fmt.rate(rate)]
    if total is not None and total > n:
        found.append(f"{fmt.span((total - n) / rate)} left")
    return found
