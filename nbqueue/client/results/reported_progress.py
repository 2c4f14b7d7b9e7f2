"""`Progress`: bars and fields that a task reported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.clock import from_ms
from nbqueue.moved_modules import pickled_as
from nbqueue.printable import printable
from nbqueue.wire import fields
from nbqueue.wire.decoding import json_value
from nbqueue.wire.keys import stored_keys


@pickled_as("nbqueue.client.progress")
@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a task: ``n`` of ``total`` (or None), at ``rate`` per second (or None).

    ``postfix`` is the text that tqdm shows behind the bar.
    """

    desc: str
    n: float
    total: float | None
    unit: str = "it"
    rate: float | None = None
    postfix: str = ""

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1, or None."""
        return min(max(self.n / self.total, 0.0), 1.0) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds for the rest at this rate, or None."""
        if not self.rate or self.total is None or self.rate < 0:
            return None
        return max(self.total - self.n, 0) / self.rate


@pickled_as("nbqueue.client.progress")
@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a task at one time: its bars, outermost first, and the fields reported.

    ``at`` is a datetime in UTC, ``attempt`` the number of the attempt.
    """

    bars: list[Bar]
    fields: dict[str, Any]
    at: datetime
    attempt: int = 0

    @property
    def fraction(self) -> float | None:
        """The part of the outermost bar that is done, from 0 to 1, or None."""
        return self.bars[0].fraction if self.bars else None

    def __str__(self) -> str:
        parts = [_bar_text(bar) for bar in self.bars]
        parts += [f"{name}={_value_text(value)}" for name, value in self.fields.items()]
        return printable(", ".join(parts)) or "nothing reported"


def _bar_text(bar: Bar) -> str:
    of = f"{bar.n:g}/{bar.total:g}" if bar.total is not None else f"{bar.n:g}"
    fraction = bar.fraction
    parts = [bar.desc and f"{bar.desc}:", "" if fraction is None else f"{fraction:.0%}"]
    if bar.total != 1.0 or bar.unit:
        parts.append(of)
    return " ".join(part for part in [*parts, bar.postfix] if part)


def _value_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_progress(broker: Broker, queue: str, task_id: str) -> Progress | None:
    """Read the latest progress of a task; None if there is none, or no task."""
    [body] = broker.call(("HGET", stored_keys(queue).task(task_id), fields.PROGRESS), on=queue)
    return None if not isinstance(body, bytes) else parse_progress(body)


def parse_progress(body: bytes) -> Progress | None:
    """Decode progress from the store; None if it is malformed."""
    try:
        return progress_of(json_value(body))
    except ValueError:
        return None


def progress_of(value: Any) -> Progress | None:
    """Return progress from its JSON value, which is not trusted; None if it is malformed."""
    try:
        bars = [
            Bar(
                str(bar["desc"]),
                _number(bar["n"]),
                None if bar["total"] is None else _number(bar["total"]),
                str(bar.get("unit", "it")),
                None if bar.get("rate") is None else float(bar["rate"]),
                str(bar.get("postfix", "")),
            )
            for bar in value["bars"]
        ]
        found = {str(name): each for name, each in dict(value["fields"]).items()}
        return Progress(bars, found, from_ms(int(value["at"])), int(value.get("attempt", 0)))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, float) else int(value)
