"""Running the failed tasks of a group again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.task_groups import record_task_group
from nbqueue.client.inspection.bulk_actions import BulkActions
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.futures.group import TaskGroup


def retry_failed(group: TaskGroup[Any]) -> BulkResult:
    """Run the tasks again that are known to have failed; the group waits for them again."""
    session, state = group._session, group._state
    failed = [
        task_id
        for task_id, outcome in zip(state.ids, state.outcomes, strict=True)
        if outcome is not None and outcome.state == states.ARCHIVED and not outcome.is_cancelled
    ]
    if not failed:
        return BulkResult("retry")
    result = BulkActions(session).retry(failed, queue=group.queue)
    group._reopen(result.done)
    # Its counts are no longer final.
    session.broker.run(record_task_group(group.id, {"counts": ""}))
    return result
