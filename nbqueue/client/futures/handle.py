"""`TaskHandle`: what the handles of one task and of many have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.live.display import bundle_of, notify_of_end, show_live

if TYPE_CHECKING:
    from typing_extensions import Self

    from nbqueue.client.obstacles.obstacle_watch import Found, ObstacleWatch
    from nbqueue.client.obstacles.store_facts import Wanted


class TaskHandle:
    """Base class of `TaskFuture` and `TaskGroup`."""

    _facts: TaskFacts

    _resume: Callable[[], None] | None = None
    """Starts the listener of a forked process; set on handles that the process inherited."""

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._facts.queue

    @property
    def type(self) -> str:
        """The name of the function."""
        return self._facts.type

    @property
    def name(self) -> str | None:
        """The name given with ``options(name=…)``, or None."""
        return self._facts.name

    def show(self) -> None:
        """Show a card here, live until all work has ended; outside a notebook, print its text.

        A handle that is the last line of a cell is shown without a call.
        """
        show_live(self)

    _ipython_display_ = show

    def notify(self) -> Self:
        """Have the browser notify you when all work has ended; return the handle itself.

        The card, which is shown if it is not yet, also marks the title of its tab until you look at
        it. Browsers ask for permission only at a click: until then the bell of the card is labelled
        *Allow notification*. The page must stay open. Raises `UsageError` outside a notebook.

        >>> g = q.map(fit, grid).notify()   # doctest: +SKIP
        """
        notify_of_end(self)
        return self

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return bundle_of(self)

    def _view(self) -> Any:
        """Make the card of this handle."""
        raise NotImplementedError

    def _obstacle_watch(self) -> ObstacleWatch:
        """Return what finds the reasons why its tasks do not run."""
        raise NotImplementedError

    def _sample(self) -> Wanted:
        """Return some of the tasks that have not ended, by queue."""
        raise NotImplementedError

    def _obstacles(self) -> Found:
        """Return why its tasks do not run, as far as that can be known in a moment."""
        wanted = self._sample()
        return self._obstacle_watch().look(wanted) if wanted else ()

    def _goes_on(self) -> str:
        """Say that the tasks go on, and how to find and to cancel them."""
        raise NotImplementedError

    def _inherit(self, resume: Callable[[], None]) -> bool:
        """Make a handle of the parent process usable in a forked one.

        ``resume`` starts the listener of the forked process. Returns whether something waits for
        the handle already.
        """
        raise NotImplementedError
