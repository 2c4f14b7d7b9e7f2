"""`schedule` and `schedule_message`, for whatever has a session and options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbqueue.client.schedules.schedule import Schedule
    from nbqueue.client.session import Session


class Scheduling:
    """Mixed into `Submitter`; see `Client.schedule`."""

    _session: Session
    _changes: Mapping[str, Any]

    def schedule(
        self,
        fn: Callable[..., Any],
        spec: str,
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Schedule:
        """Run ``fn(*args, **kwargs)`` whenever ``spec`` is due; see `Client.schedule`."""
        from nbqueue.client.schedules.schedule import schedule_call

        return schedule_call(
            self._session, self._changes, settings, fn, spec, tuple(args), dict(kwargs or {})
        )

    def schedule_message(
        self, type: str, payload: Any = None, spec: str = "", **settings: Any
    ) -> Schedule:
        """Enqueue a message whenever ``spec`` is due; see `Client.schedule_message`."""
        from nbqueue.client.schedules.schedule import schedule_message

        return schedule_message(self._session, self._changes, settings, type, payload, spec)
