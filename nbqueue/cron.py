"""Due times of schedules: Asynq's cron grammar, evaluated in a time zone.

The grammar is that of Asynq (robfig/cron's standard parser), parsed and checked here. croniter
finds the next matching wall-clock time from plain lists of numbers, on which both grammars agree.
This module maps the wall-clock time to moments. See docs/schedules.md.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from nbqueue.clock import from_ms, to_ms
from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean, known_names
from nbqueue.printable import shown
from nbqueue.runtime.forks import in_children

YEARS = 5
"""A spec without a match within so many years never matches, as in Asynq."""

_ZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S*)\s*")
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_EVERY = re.compile(r"(\d+(\.\d+)?(ms|[smhdw]))+", re.ASCII)
_DAY = timedelta(days=1)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: dict[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, {name: i for i, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 6, {name: i for i, name in enumerate(_DAYS)}),
)


class _Values(NamedTuple):
    """The values of a field, and whether it is an unrestricted ``*`` or ``?``."""

    values: frozenset[int]
    is_star: bool

    def text(self) -> str:
        return ",".join(map(str, sorted(self.values)))


@dataclass(frozen=True)
class Every:
    """Due repeatedly, a fixed number of whole seconds apart."""

    seconds: int

    def next_after(self, ms: int) -> int | None:
        """Return the whole second one period after ``ms``, in Unix milliseconds."""
        return (ms // 1000 + self.seconds) * 1000


@dataclass(frozen=True)
class Cron:
    """Due when the wall clock in ``zone`` matches."""

    expression: str
    zone: ZoneInfo
    is_every_hour: bool

    def next_after(self, ms: int) -> int | None:
        """Return the first due time after ``ms`` in Unix milliseconds, or None.

        Times that the wall clock skips in spring are skipped. Times that it shows twice in autumn
        are due once, the first time, unless the spec does not restrict hours.
        """
        at = from_ms(ms)
        end = at + timedelta(days=366 * YEARS)
        # Go through periods in which the zone's UTC offset does not change.
        wall = _wall(at, self.zone)
        while at < end:
            offset = self._offset(at)
            found = self._next_wall(wall)
            if found is None:
                return None
            moment = (found - offset).replace(tzinfo=timezone.utc)
            change = self._change(at, moment)
            if change is not None:
                at = change
                # The change itself is the first moment of its period.
                wall = _wall(at, self.zone) - timedelta(microseconds=1)
            elif self.is_every_hour or not moment.astimezone(self.zone).fold:
                return to_ms(moment)
            else:
                at, wall = moment, found
        return None

    def _offset(self, moment: datetime) -> timedelta:
        offset = moment.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset

    def _change(self, start: datetime, end: datetime) -> datetime | None:
        """Return the first moment in (start, end] at which the UTC offset changes."""
        before = self._offset(start)
        low = start
        while low < end:
            high = min(low + _DAY, end)
            if self._offset(high) != before:
                while high - low > timedelta(seconds=1):
                    middle = low + (high - low) / 2
                    if self._offset(middle) == before:
                        low = middle
                    else:
                        high = middle
                return high.replace(microsecond=0)
            low = high
        return None

    def _next_wall(self, wall: datetime) -> datetime | None:
        from croniter import CroniterBadDateError

        try:
            with _iterating:
                iterator = _iterator(self.expression)
                iterator.set_current(wall, force=True)
                found: datetime = iterator.get_next(datetime)
        except CroniterBadDateError:
            return None
        return found


Spec = Every | Cron


def parse_spec(text: Any, tz: Any = "UTC") -> Spec:
    """Parse a spec. ``tz`` is the zone of a spec that names none itself.

    Raises `UsageError` that names the invalid part, or states that the spec never matches.
    """
    if not isinstance(text, str) or not text.strip():
        raise UsageError(
            f'spec={shown(text)} is empty: write "*/5 * * * *", "@every 30s" or "@hourly"'
        )
    body = text.strip()
    zone = zone_of(tz)
    prefix = _ZONE.match(body)
    if prefix:
        zone = zone_of(prefix[1], f"spec={shown(text)}: the time zone ")
        body = body[prefix.end() :]
        if not body:
            raise UsageError(f"spec={shown(text)} has a time zone but no times")
    if body.startswith("@every"):
        return _every(text, body[len("@every") :].strip())
    if body.startswith("@"):
        if body not in _DESCRIPTORS:
            known = known_names(body, _DESCRIPTORS)
            raise UsageError(
                f"spec={shown(text)}: {shown(body)} is no schedule{known}, @every DURATION"
            )
        body = _DESCRIPTORS[body]
    return _cron(text, body.split(), zone)


def zone_of(tz: Any, where: str = "tz=") -> ZoneInfo:
    """Return the zone with this name. Raises `UsageError` if there is none."""
    if isinstance(tz, ZoneInfo):
        return tz
    if tz is timezone.utc:
        return ZoneInfo("UTC")
    try:
        if isinstance(tz, str):
            return ZoneInfo(tz)
        raise LookupError
    except (ValueError, OSError, LookupError):
        question = did_you_mean(tz, available_timezones())
        raise UsageError(
            f"{where}{shown(tz)} is no time zone known here: "
            f"{question or 'write one such as ' + repr('Europe/Paris')}"
        ) from None


def shown_zone(spec: object, tz: object) -> ZoneInfo | None:
    """Return the zone in which to show a schedule's times, or None if unknown."""
    prefix = _ZONE.match(spec.strip()) if isinstance(spec, str) else None
    try:
        return zone_of(prefix[1] if prefix else tz)
    except UsageError:
        return None


def _every(text: str, duration: str) -> Every:
    if not _EVERY.fullmatch(duration):
        raise UsageError(
            f"spec={shown(text)}: {shown(duration)} is no duration: write @every 30s, @every 1h30m"
        )
    seconds = int(parse_duration(duration))
    if seconds < 1:
        raise UsageError(
            f"spec={shown(text)}: {shown(duration)} is too short: it must be 1 s or more"
        )
    if seconds > YEARS * 366 * 86_400:
        raise UsageError(f"spec={shown(text)}: {shown(duration)} is longer than {YEARS} years")
    return Every(seconds)


def _cron(text: str, parts: list[str], zone: ZoneInfo) -> Cron:
    if len(parts) != len(_FIELDS):
        raise UsageError(
            f"spec={shown(text)} has {len(parts)} fields: it must have 5, which are minute, "
            "hour, day of month, month and day of week"
        )
    minute, hour, dom, month, dow = (
        _values(text, field, part) for field, part in zip(_FIELDS, parts, strict=True)
    )
    days, weekdays = _day_texts(dom, dow)
    # croniter takes a list of all values for a star, so both grammars agree on it.
    expression = f"{minute.text()} {hour.text()} {days} {month.text()} {weekdays}"
    cron = Cron(expression, zone, len(hour.values) == 24)
    start = datetime(2024, 3, 1)  # after a leap day, so that the next five years contain one
    if cron._next_wall(start) is None:
        raise UsageError(
            f"spec={shown(text)} never matches: there is no such day within {YEARS} years"
        )
    return cron


def _day_texts(dom: _Values, dow: _Values) -> tuple[str, str]:
    """Return day of month and of week for croniter.

    If both are restricted, croniter lets either one match.
    """
    if dom.is_star:
        return "*", dow.text() if len(dow.values) < 7 else "*"
    if dow.is_star:
        return dom.text() if len(dom.values) < 31 else "*", "*"
    if len(dom.values) == 31 or len(dow.values) == 7:
        return "*", "*"
    return dom.text(), dow.text()


def _values(text: str, field: _Field, part: str) -> _Values:
    found: set[int] = set()
    is_star = False
    for each in part.split(","):
        values, star = _range(text, field, each)
        found.update(values)
        is_star = is_star or star
    return _Values(frozenset(found), is_star)


def _range(text: str, field: _Field, part: str) -> tuple[range, bool]:
    def wrong(why: str) -> UsageError:
        return UsageError(f"spec={shown(text)}: the {field.name} {shown(part)} {why}")

    whole, *steps = part.split("/")
    ends = whole.split("-")
    if len(steps) > 1 or len(ends) > 2:
        raise wrong("is no value, range or step, such as 5, 1-5, */2 or 10-30/5")
    step = 1
    if steps:
        if not _NUMBER.fullmatch(steps[0]) or int(steps[0]) == 0:
            raise wrong("has a step that is no whole number of 1 or more")
        step = int(steps[0])
    if ends[0] in ("*", "?"):
        if len(ends) > 1:
            raise wrong("is no range")
        return range(field.low, field.high + 1, step), step == 1
    low = _value(field, ends[0], wrong)
    last = field.high if steps else low
    high = _value(field, ends[1], wrong) if len(ends) > 1 else last
    if low > high:
        raise wrong("ends before it begins")
    return range(low, high + 1, step), False


def _value(field: _Field, word: str, wrong: Callable[[str], UsageError]) -> int:
    named = field.names.get(word.lower())
    if named is not None:
        return named
    if not _NUMBER.fullmatch(word):
        raise wrong("is empty" if not word else f"has {shown(word)}, which is no number or name")
    value = int(word)
    if not field.low <= value <= field.high:
        raise wrong(f"must be from {field.low} to {field.high}")
    return value


_iterating = threading.Lock()


def _renew_lock() -> None:
    global _iterating
    _iterating = threading.Lock()


in_children(_renew_lock)


@lru_cache(maxsize=512)
def _iterator(expression: str) -> Any:
    """Cached because it is slow to make; used under the lock because it is stateful."""
    # Imported late: processes without cron specs do not need it.
    from croniter import croniter

    return croniter(expression, datetime(2024, 1, 1), max_years_between_matches=YEARS)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
