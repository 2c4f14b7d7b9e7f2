"""``df.nbq``: actions on the tasks in a frame, in the store it came from."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.client.inspection.bulk_actions import BulkActions
from nbqueue.client.inspection.plots import TIMELINE_DEFAULTS, TimelineKeywords, draw_timeline
from nbqueue.client.inspection.task_filter import BulkResult, named_ids
from nbqueue.client.session import Session, session_at
from nbqueue.durations import Duration
from nbqueue.keywords import lists
from nbqueue.views import frame_accessor

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DRAWN = {"started_at", "finished_at", "worker"}


class TaskFrame(frame_accessor.FrameViews):
    """``df.nbq``: views of a frame of tasks or attempts, and actions on its tasks.

    >>> df = q.tasks(state="archived")
    >>> df[df.error.str.contains("timeout")].nbq.retry()

    The tasks are looked up in the store from which the frame was read, whatever pandas did with it
    since. Each action returns a `BulkResult`; see `Inspector`.
    """

    def retry(self) -> BulkResult:
        """Run the tasks again, with all of their retries."""
        return self._actions().retry(self._frame)

    def run(self) -> BulkResult:
        """Make the tasks pending, so that they run as soon as it is their turn."""
        return self._actions().run(self._frame)

    def cancel(self) -> BulkResult:
        """Cancel the tasks, whatever their state."""
        return self._actions().cancel(self._frame)

    def archive(self) -> BulkResult:
        """Archive the tasks that do not run."""
        return self._actions().archive(self._frame)

    def delete(self) -> BulkResult:
        """Delete the tasks that do not run."""
        return self._actions().delete(self._frame)

    def reschedule(
        self, *, at: datetime | None = None, delay: Duration | None = None
    ) -> BulkResult:
        """Change when the tasks run: ``at`` a timezone-aware datetime, or after ``delay``."""
        return self._actions().reschedule(self._frame, at=at, delay=delay)

    @lists(TIMELINE_DEFAULTS)
    def timeline(self, **options: Unpack[TimelineKeywords]) -> Any:
        """Draw where and at which times tasks ran.

        A frame of tasks shows the last attempt of each. What the frame has no columns of is read
        from the store again.
        """
        from nbqueue.views.frames.task_frames import as_attempts

        frame = self._frame
        if not set(frame.columns) >= _DRAWN and "nbqueue" in frame.attrs:
            return draw_timeline(self._attempts(), options)
        return draw_timeline(frame if self.is_of_attempts else as_attempts(frame), options)

    def _attempts(self) -> Any:
        """Read the attempts in the frame, or the last one of each task in it."""
        from nbqueue.views.frames.attempt_frames import attempts

        session = self._session()
        ids = {task_id for task_id, _ in named_ids(self._frame)}
        rows = session.attempt_rows(session.broker.queues())
        found = attempts([row for row in rows if row.get("task_id") in ids])
        if not self.is_of_attempts:
            return found.drop_duplicates("task_id", keep="last", ignore_index=True)
        if "attempt" not in self._frame.columns:
            return found
        shown = set(zip(self._frame["task_id"], self._frame["attempt"], strict=True))
        pairs = zip(found["task_id"], found["attempt"], strict=True)
        return found[[pair in shown for pair in pairs]]

    def _actions(self) -> BulkActions:
        return BulkActions(self._session())

    def _session(self) -> Session:
        origin = self._frame.attrs.get("nbqueue")
        if not isinstance(origin, dict) or "store" not in origin:
            raise AttributeError(
                "this frame has lost the URL of its store: pass it to q.retry(df), q.cancel(df), …"
            )
        return session_at(origin["store"])


def register_accessor() -> None:
    """Give all frames of pandas ``.nbq``.

    Needs pandas, so it is called where a frame is made.
    """
    frame_accessor.register(TaskFrame)
