"""Commands for the records of task groups, and for the states of their members."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbqueue.broker.script_commands import command
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.task_groups.member_runs import Run
from nbqueue.wire.task_groups.task_group_keys import TaskGroupKeys, task_group_name

MOST_READ = 1_000
"""Members in one command of `member_states`, which then takes Redis about a millisecond."""

GONE = "."
"""The letter of a member that is not in the store; see `member_states`."""

COMPLETED, FAILED, CANCELLED = "c", "f", "x"
"""The letters of members that have ended."""


def record_task_group(
    group_id: str, fields: Mapping[str, str], runs: Sequence[Run] = (), check_ms: int = 0
) -> Command[bool]:
    """Record members of a group, and set ``fields`` of its record.

    Without members, only a record that exists is changed. ``check_ms`` is when workers look whether
    members still exist, unless that is later already. Reads as whether there is a record.
    """
    keys = TaskGroupKeys(group_id)
    return command(
        "record_task_group",
        None,
        {
            "id": group_id,
            "check_ms": check_ms,
            "fields": json.dumps(fields),
            "runs": json.dumps([run.entry for run in runs]),
        },
        bool,
        other_keys={"record": keys.record, "members": keys.members, "index": keys.index},
    )


def name_task_group(group_id: str, name: str, started_ms: int) -> Command[bool]:
    """Make a name lead to a group, unless it leads to a newer one."""
    return command(
        "name_task_group",
        None,
        {"id": group_id, "started_ms": started_ms},
        bool,
        other_keys={"name_key": task_group_name(name)},
    )


def unname_task_group(group_id: str, name: str) -> Command[bool]:
    """Delete a name if it leads to this group."""
    return command(
        "unname_task_group",
        None,
        {"id": group_id},
        bool,
        other_keys={"name_key": task_group_name(name)},
    )


def claim_task_group(group_id: str, expected: bytes, check_ms: int) -> Command[bool]:
    """Claim the check of a group until ``check_ms``.

    ``expected`` is the score that the index had. Reads as whether the caller has the claim.
    """
    return command(
        "claim_task_group",
        None,
        {"id": group_id, "expected": expected, "check_ms": check_ms},
        bool,
        other_keys={"index": TaskGroupKeys(group_id).index},
    )


def forget_task_group(group_id: str, expected: int) -> Command[bool]:
    """Delete the record of a group whose check the caller has claimed until ``expected``.

    Reads as whether it was deleted; it is not if members were added meanwhile.
    """
    keys = TaskGroupKeys(group_id)
    return command(
        "forget_task_group",
        None,
        {"id": group_id, "expected": expected},
        bool,
        other_keys={"record": keys.record, "members": keys.members, "index": keys.index},
    )


def member_states(queue: str, runs: Sequence[Run]) -> Command[str]:
    """Read the states of at most `MOST_READ` members, as a letter for each.

    The letters are in the header of the script.
    """
    keys = stored_keys(queue)
    return command(
        "member_states",
        keys,
        {"task_prefix": keys.task_prefix, "runs": json.dumps([run.entry for run in runs])},
        _letters,
    )


def _letters(reply: Any) -> str:
    return reply.decode("ascii", "replace") if isinstance(reply, bytes) else ""
