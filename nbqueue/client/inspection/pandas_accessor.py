"""``df.nbq``: actions on the tasks in a frame, in the store that it came from."""

from __future__ import annotations

from typing import Any

from nbqueue.client.inspection.inspector import Inspector
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.client.session import session_at
from nbqueue.views import frame_accessor


class TaskFrame(frame_accessor.FrameViews):
    """What frames of tasks and of attempts can show, and what can be done with their tasks.

    >>> df = q.tasks(state="archived")
    >>> df[df.error.str.contains("timeout")].nbq.retry()

    The tasks are those of the store from which the frame was read, whatever pandas did with it
    since. Each action returns a `BulkResult`; see `Inspector`.
    """

    def retry(self) -> BulkResult:
        """Run them again, with all of their retries."""
        return self._inspector().retry(self._frame)

    def run(self) -> BulkResult:
        """Have them run as soon as their turn comes."""
        return self._inspector().run(self._frame)

    def cancel(self) -> BulkResult:
        """Cancel them, whatever their state."""
        return self._inspector().cancel(self._frame)

    def archive(self) -> BulkResult:
        """Put those away that do not run."""
        return self._inspector().archive(self._frame)

    def delete(self) -> BulkResult:
        """Delete those that do not run."""
        return self._inspector().delete(self._frame)

    def reschedule(self, **when: Any) -> BulkResult:
        """Have them run at another time: ``at=`` or ``delay=``."""
        return self._inspector().reschedule(self._frame, **when)

    def timeline(self, **options: Any) -> Any:
        """A picture of when they ran, and where; of tasks it shows the last attempt of each."""
        from nbqueue.client.inspection.frames import timeline

        frame = self._frame
        if self.is_of_attempts:
            return timeline(frame, options)
        from nbqueue.views.frames.task_frames import as_attempts

        return timeline(as_attempts(frame), options)

    def _inspector(self) -> Inspector:
        origin = self._frame.attrs.get("nbqueue")
        if not isinstance(origin, dict) or "store" not in origin:
            raise AttributeError(
                "this frame does not know its store any more: pass it to q.retry(df) or its like"
            )
        return Inspector(session_at(origin["store"]))


def register() -> None:
    """Give all frames of pandas ``.nbq``; when the first frame is made, and not before."""
    frame_accessor.register(TaskFrame)
