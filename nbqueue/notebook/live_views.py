"""Live displays in a notebook: drawn by one thread, settled when their work ends.

`show` displays a `View` as text and HTML, a *still*, which is what a saved notebook has. Beside it
a model of a widget is open, which is displayed nowhere: its script finds the still in the page by
the id of the display, and shows the live view in its place (static/view.js). So a notebook that is
opened without its kernel shows the still, and one that is opened again with it the live view.

The view reports changes (`Shown.changed`, cheap, from any thread), and one thread draws all changed
views, at most `DRAWS_A_SECOND` times a second together. While a page has the view, its still is
replaced after a change as well, so that a saved one is at most `STILL_SECONDS` old; without a
change, when only clocks go on, once in `CLOCK_STILL_SECONDS`. When a view is final, its display is
*settled*: the still is the end. The model stays open for what can still be pressed, such as Retry.

A model that is not seen is sent nothing. A page reports every ten seconds that it has a view, and
whether that is seen. While a cell runs the kernel cannot receive that, so such time does not count
as silence.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from nbqueue.notebook.live.flusher import FLUSHER
from nbqueue.notebook.live.shown import Shown, settled_in_thread
from nbqueue.notebook.view import View

_shown_by_waits: list[Shown] = []
"""Displays that waits of the running cell opened."""


def kernel_shell() -> Any:
    """Return the IPython shell of a kernel, or None in a terminal or a script."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def show(view: View) -> Shown | None:
    """Display ``view``. Without a notebook, print its text and return None."""
    shell = kernel_shell()
    if shell is None:
        print(view.text())  # noqa: T201 (a terminal: this is the display)
        return None
    shown = Shown(view, shell)
    shown.first()
    _settle_after_cells(shell)
    return shown


def show_wait(view: View) -> Shown | None:
    """Display ``view`` for a wait; `show_once` then displays its handle nowhere else."""
    shown = show(view)
    if shown is not None:
        _shown_by_waits.append(shown)
    return shown


def show_once(view: View) -> None:
    """Display ``view``, unless a wait for its handle in the running cell did so already.

    If that display is settled, it is brought up to date.
    """
    for shown in _shown_by_waits:
        if shown.view.subject is view.subject and (shown.is_open or view.is_final):
            shown.bring_up_to_date(view)
            return
    show(view)


def notify(view: View) -> bool:
    """Have pages notify of the end of the view's handle; return False outside a notebook.

    ``view`` is displayed if no display of the handle is open.
    """
    if kernel_shell() is None:
        return False
    if not is_shown(view.subject):
        show_wait(view)
    for shown in FLUSHER.shown:
        if shown.view.subject is view.subject:
            shown.notify()
    return True


def is_shown(subject: Any) -> bool:
    """Return whether a live view of this handle is open."""
    return any(shown.view.subject is subject for shown in FLUSHER.shown)


def _settle_after_cells(shell: Any) -> None:
    """Settle ended views at the end of each cell, when front ends save its output."""
    events = getattr(shell, "events", None)
    if events is not None and not getattr(shell, "_nbqueue_settles", False):
        shell._nbqueue_settles = True
        events.register("post_run_cell", _on_cell_end)


def _on_cell_end(result: Any) -> None:
    now = time.monotonic()

    def save(shown: Shown) -> None:
        if shown.view.is_final:
            shown.settle()
        else:
            shown.save_if_due(now, hearing_since=now)

    for shown in FLUSHER.shown:
        FLUSHER.guarded(shown, save)
    # nbclient, running a notebook without a page, drops messages between two cells.
    while settled_in_thread:
        FLUSHER.guarded(settled_in_thread.popleft(), Shown.save_still)
    _shown_by_waits.clear()
