"""The progress of a task: its bars, and small values shown with them."""

from __future__ import annotations

import json
import math
import time
from typing import Any, Final

from nbqueue.errors import UsageError

MOST_BARS: Final = 20
MOST_FIELDS: Final = 50
LARGEST_TEXT: Final = 200
_SMOOTHING = 0.3


class Bar:
    """One bar: ``n`` of ``total`` (None: unknown), at ``rate`` per second."""

    __slots__ = ("_at", "_at_n", "desc", "is_open", "n", "postfix", "rate", "total", "unit")

    def __init__(
        self, desc: str = "", total: float | None = None, unit: str = "it", n: float = 0
    ) -> None:
        self.desc = desc
        self.n = n
        self.total = total
        self.unit = unit
        self.rate: float | None = None
        self.postfix = ""
        self.is_open = True
        self._at, self._at_n = time.monotonic(), n

    def move(self, n: float) -> None:
        """Set ``n`` and update the rate, a moving average."""
        now = time.monotonic()
        elapsed = now - self._at
        if elapsed > 0:
            rate = (n - self._at_n) / elapsed
            old = self.rate
            self.rate = rate if old is None else old + _SMOOTHING * (rate - old)
        self.n = n
        self._at, self._at_n = now, n

    def plain(self) -> dict[str, Any]:
        return {
            "desc": self.desc[:LARGEST_TEXT],
            "n": _number(self.n),
            "total": _number(self.total),
            "unit": self.unit[:LARGEST_TEXT],
            "rate": _number(self.rate),
            "postfix": self.postfix[:LARGEST_TEXT],
        }


class Bars:
    """The bars of a task, outermost first.

    Threads of the task change them.
    """

    def __init__(self) -> None:
        self._items: list[Bar] = []
        self._main: Bar | None = None
        self.fields: dict[str, Any] = {}

    def add(self, bar: Bar) -> None:
        """Add a bar. It replaces finished bars at its depth."""
        items = list(self._items)
        while items and not items[-1].is_open:
            items.pop()
        self._items = [*items, bar]

    def show(self, bar: Bar) -> None:
        """Record a change of a bar; a new bar is added."""
        if not any(each is bar for each in self._items):
            self.add(bar)

    def remove(self, bar: Bar) -> None:
        self._items = [each for each in self._items if each is not bar]

    def report(
        self,
        progress: float | tuple[float, float] | None,
        desc: str | None,
        fields: dict[str, Any],
    ) -> None:
        """Record the arguments of `nbqueue.report`. Raises `UsageError` for invalid progress."""
        if progress is not None or desc is not None:
            n, total = _part(progress)
            if self._main is None:
                self._main = Bar("", total, "" if total == 1.0 else "it", n)
            elif progress is not None:
                self._main.total = total
                self._main.move(n)
            if desc is not None:
                self._main.desc = str(desc)
        merged = {**self.fields, **fields}
        if len(merged) > MOST_FIELDS:
            raise UsageError(f"a task can report {MOST_FIELDS} fields, not {len(merged)}")
        self.fields = merged

    def encode(self) -> bytes:
        bars = [bar for bar in (self._main, *self._items) if bar is not None][:MOST_BARS]
        content = {"bars": [bar.plain() for bar in bars], "fields": self.fields}
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "replace"
        )


def plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert the fields of a report to JSON values.

    Raises `UsageError` for large ones.
    """
    return {name: _plain(name, value) for name, value in fields.items()}


def _plain(name: str, value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        item = getattr(value, "item", None)  # NumPy's numbers, and tensors with one number
        try:
            value = item() if item is not None else value
        except (TypeError, ValueError, RuntimeError):
            pass
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str) and len(value) <= LARGEST_TEXT:
        return value
    raise UsageError(
        f"{name}={str(value)[:40]!r} cannot be shown next to a bar: report a number, or a text of "
        f"{LARGEST_TEXT} characters at most; report(result=…) takes anything"
    )


def _part(progress: Any) -> tuple[float, float | None]:
    if progress is None:
        return 0, None
    n, total = progress if isinstance(progress, tuple) and len(progress) == 2 else (progress, 1.0)
    try:
        n, total = _plain("progress", n), None if total is None else _plain("progress", total)
        if isinstance(n, str | None) or isinstance(total, str):
            raise TypeError
    except (TypeError, UsageError):
        raise UsageError(
            f"progress={progress!r} is neither a number from 0 to 1 nor (how many, of how many)"
        ) from None
    return n, total


def _number(value: float | None) -> float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | int):
        return value
    return float(value)
