"""``df.nbq``: actions on the tasks in a frame, in the store it came from."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbqueue.client.inspection.bulk_actions import BulkActions
from nbqueue.client.inspection.plots import TIMELINE_DEFAULTS, TimelineKeywords, draw_timeline
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.client.session import session_at
from nbqueue.durations import Duration
from nbqueue.keywords import lists
from nbqueue.views import frame_accessor

if TYPE_CHECKING:
    from typing_extensions import Unpack


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

        A frame of tasks shows the last attempt of each.
        """
        frame = self._frame
        if self.is_of_attempts:
            return draw_timeline(frame, options)
        from nbqueue.views.frames.task_frames import as_attempts

        return draw_timeline(as_attempts(frame), options)

    def _actions(self) -> BulkActions:
        origin = self._frame.attrs.get("nbqueue")
        if not isinstance(origin, dict) or "store" not in origin:
            raise AttributeError(
                "this frame has lost the URL of its store: pass it to q.retry(df), q.cancel(df), …"
            )
        return BulkActions(session_at(origin["store"]))


def register_accessor() -> None:
    """Give all frames of pandas ``.nbq``.

    Needs pandas, so it is called where a frame is made.
    """
    frame_accessor.register(TaskFrame)
