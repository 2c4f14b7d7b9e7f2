"""Recording the members of a task group, so that `Client.group` finds it again."""

from __future__ import annotations

import getpass
import math
import os
import socket
from collections.abc import Iterable, Sized
from functools import cache
from typing import TYPE_CHECKING

from nbqueue.broker.commands.task_groups import name_task_group, record_task_group
from nbqueue.calls.pickling.captured_values import warn_at_user
from nbqueue.errors import StoreDenied, StoreWarning
from nbqueue.transport.script_call import Command
from nbqueue.wire.task_groups.member_runs import MemberRuns, runs_of
from nbqueue.wire.task_groups.task_group_record import TaskGroupRecord, new_fields

if TYPE_CHECKING:
    from nbqueue.broker.new_tasks import EnqueueRequest
    from nbqueue.client.futures.task_facts import TaskFacts
    from nbqueue.client.session import Session

CHECK_MS = 3_600_000
"""Milliseconds from the last recorded members to the first look whether any still exists.

Until then they may be about to be enqueued.
"""


class TaskGroupRecorder:
    """Writes the record of one group while its map runs, each part before its tasks.

    That is one round trip for each slice of the map. If the process is killed, no member is lost,
    and the record says that it is not complete. A store whose user may not write such records is
    used without them.
    """

    def __init__(
        self,
        session: Session,
        group_id: str,
        facts: TaskFacts,
        retention: float,
        expected: int | None,
    ) -> None:
        """``retention``: seconds. ``expected``: how many members there will be, if known."""
        self._session = session
        self._is_off = self._has_begun = self._is_complete = False
        self._record = TaskGroupRecord(
            group_id=group_id,
            queue=facts.queue,
            type=facts.type,
            name=facts.name,
            started_ms=session.clock.now_ms(),
            by=made_by(),
            retention=math.ceil(retention),
            expected=expected,
            is_complete=False,
            is_json=facts.is_json,
            recorded_ms=0,
            check_from=0,
            final=None,
            members=MemberRuns(()),
        )

    @property
    def started_ms(self) -> int:
        """When the map began, in Unix milliseconds."""
        return self._record.started_ms

    def record(self, request: EnqueueRequest, *, is_last: bool) -> EnqueueRequest:
        """Record the tasks of a request, which are about to be enqueued; return the request.

        With ``is_last``, the request also records that the group is complete. Raises `StoreError`.
        """
        if self._is_off:
            return request
        record, now_ms = self._record, self._session.clock.now_ms()
        fields, others = {"recorded": str(now_ms)}, []
        if not self._has_begun:
            fields |= new_fields(record)
            if record.name is not None:
                others.append(name_task_group(record.group_id, record.name, record.started_ms))
        self._run(
            record_task_group(record.group_id, fields, runs_of(request.ids), now_ms + CHECK_MS),
            *others,
        )
        self._has_begun = True
        if self._is_off or not is_last:
            return request
        self._is_complete = True
        return request._replace(after=(self._completion(),))

    def end(self) -> None:
        """Record that the group is complete, unless the last request did. Raises `StoreError`."""
        if self._has_begun and not self._is_complete and not self._is_off:
            self._run(self._completion())

    def _completion(self) -> Command[bool]:
        return record_task_group(self._record.group_id, {"complete": "1"})

    def _run(self, *commands: Command[bool]) -> None:
        try:
            self._session.broker.run_all(commands)
        except StoreDenied as error:
            self._is_off = True
            warn_at_user(
                f"the group of {self._record.type} is not recorded, so q.group() will not find it "
                f"again: its keys begin with nbqueue:{{~. {error}",
                StoreWarning,
            )


def expected_count(iterables: Iterable[object]) -> int | None:
    """Return how many calls a map over ``iterables`` makes; None if not all have a length."""
    lengths: list[int] = []
    for each in iterables:
        if not isinstance(each, Sized):
            return None
        try:
            lengths.append(len(each))
        except Exception:
            return None  # such as a lazy array of unknown length
    return min(lengths, default=None)


@cache
def made_by() -> str:
    """Return who runs this process, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = str(os.getuid())
    text = f"{user}@{socket.gethostname() or 'unknown-host'}"
    return text.encode("utf-8", "replace").decode()
