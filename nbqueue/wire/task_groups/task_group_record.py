"""The record of a task group: what it is, by whom, and whether it is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nbqueue.wire.decoding import LAST_MS, text, whole_number
from nbqueue.wire.task_groups.member_runs import MOST_MEMBERS, MemberRuns, Run, read_run

_LONGEST = 4_096
_MOST_SECONDS = LAST_MS // 1000


class FinalCounts(NamedTuple):
    """Numbers of members by outcome, of a group whose members have all ended.

    ``at_ms`` is when they were counted. Members that are gone from the store are in none of them.
    """

    at_ms: int
    completed: int
    failed: int
    cancelled: int

    @property
    def text(self) -> str:
        """The counts as they are stored."""
        return " ".join(map(str, self))


class TaskGroupRecord(NamedTuple):
    """A task group as it is stored."""

    group_id: str
    queue: str
    type: str
    name: str | None
    started_ms: int
    by: str
    """The user and machine that made it: ``user@host``."""
    retention: int
    """Seconds for which the results of the members are kept."""
    expected: int | None
    """How many members the map was to make, if that was known."""
    is_complete: bool
    """True if all tasks of the map were enqueued. It may still run, or was cut off."""
    is_json: bool
    """True if the results of the members are JSON, and not pickled."""
    recorded_ms: int
    """When the last members were recorded."""
    check_from: int
    """How many of the first members are known to be gone."""
    final: FinalCounts | None
    """The counts that were stored when all members had ended; None if there are none."""
    members: MemberRuns


def new_fields(record: TaskGroupRecord) -> dict[str, str]:
    """Return the fields of a new record, without its members."""
    found = {
        "queue": record.queue,
        "type": record.type,
        "started": str(record.started_ms),
        "by": record.by,
        "retention": str(record.retention),
    }
    if record.name is not None:
        found["name"] = record.name
    if record.expected is not None:
        found["expected"] = str(record.expected)
    if record.is_json:
        found["json"] = "1"
    return found


def read_record(
    group_id: str, fields: Mapping[bytes, bytes], entries: Sequence[bytes]
) -> TaskGroupRecord | None:
    """Decode a record and its members; None if it is no record.

    Members that cannot be read are left out.
    """
    queue, kind = fields.get(b"queue"), fields.get(b"type")
    started_ms = whole_number(fields.get(b"started"), 0, LAST_MS)
    if not queue or kind is None or started_ms is None:
        return None
    name = fields.get(b"name")
    runs: list[Run] = [run for entry in entries if (run := read_run(entry)) is not None]
    return TaskGroupRecord(
        group_id=group_id,
        queue=queue.decode("utf-8", "surrogateescape"),
        type=text(kind)[:_LONGEST],
        name=None if name is None else text(name)[:_LONGEST],
        started_ms=started_ms,
        by=text(fields.get(b"by", b""))[:_LONGEST],
        retention=whole_number(fields.get(b"retention"), 0, _MOST_SECONDS) or 0,
        expected=whole_number(fields.get(b"expected"), 0, MOST_MEMBERS),
        is_complete=fields.get(b"complete") == b"1",
        is_json=fields.get(b"json") == b"1",
        recorded_ms=whole_number(fields.get(b"recorded"), 0, LAST_MS) or started_ms,
        check_from=whole_number(fields.get(b"check_from"), 0, MOST_MEMBERS) or 0,
        final=_final(fields.get(b"counts", b"")),
        members=MemberRuns(runs),
    )


def _final(raw: bytes) -> FinalCounts | None:
    numbers = [whole_number(word, 0, LAST_MS) for word in raw.split(b" ")]
    found = [number for number in numbers if number is not None]
    return FinalCounts(*found) if len(found) == len(numbers) == 4 else None
