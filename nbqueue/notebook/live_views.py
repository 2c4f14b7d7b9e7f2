"""Live displays in a notebook: drawn by one thread, settled when their work ends.

`show` displays a `View` as text and HTML, with a widget on top where one can run. From then on the
view reports changes (`Shown.changed`, cheap, from any thread), and one thread draws all changed
views, at most `DRAWS_A_SECOND` times a second together. When a view is final its display is
*settled*: replaced by text and HTML without a widget, so that a saved notebook needs no kernel.

A widget that is not seen is sent nothing. A page reports every ten seconds that it shows a view.
While a cell runs the kernel cannot receive that, so such time does not count as silence.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from nbqueue.notebook.view import View
from nbqueue.notebook.widget import make_widget
from nbqueue.printable import printable
from nbqueue.views.html import problem

log = logging.getLogger("nbqueue.notebook")

DRAWS_A_SECOND = 4
TICK_SECONDS = 1.0
SILENCE_SECONDS = 30.0
_MOST_STILLS = 200
_MOST_PAGES = 8
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


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
    for shown in _flusher.shown:
        if shown.view.subject is view.subject:
            shown.notify()
    return True


def is_shown(subject: Any) -> bool:
    """Return whether a live view of this handle is open."""
    return any(shown.view.subject is subject for shown in _flusher.shown)


class Shown:
    """One display of one view."""

    def __init__(self, view: View, shell: Any) -> None:
        self.view = view
        self._shell = shell
        self._display_id = f"nbqueue-{time.monotonic_ns():x}"
        self._widget: Any = None
        self._drawn: str = ""
        self._problem = ""
        self._pages: set[str] = set()
        self._pinged_at = time.monotonic()
        self._is_seen = True
        self.is_open = False
        self.is_dirty = False
        self._settling = threading.Lock()
        self._done: dict[str, int] = {}
        """The number of the last action of each page that was carried out."""
        self._acting_page = ""

    def first(self) -> None:
        """Display the view for the first time."""
        if self.view.is_final:
            self._publish(self._still(), update=False)
            return
        self._widget = make_widget(self._live_html(), self._on_message)
        bundle = self._still()
        if self._widget is not None:
            version = {"version_major": 2, "version_minor": 0}
            bundle[WIDGET_MIME] = {**version, "model_id": self._widget.model_id}
        self._publish(bundle, update=False)
        self.is_open = True
        self.view.began(self)
        _flusher.add(self)
        _settle_after_cells(self._shell)

    def changed(self) -> None:
        """Have the view drawn again. Cheap; from any thread."""
        if not self.is_dirty:
            self.is_dirty = True
            _flusher.wake()

    def settle(self) -> None:
        """Replace it by a snapshot that needs no kernel, and stop drawing it."""
        with self._settling:
            # The cell that ends and the thread that draws may both have seen that it is final.
            if not self.is_open:
                return
            self.is_open = False
            if threading.current_thread() is not threading.main_thread():
                _unsaved.append(self)
        self._leave()
        self._notify_of_end()
        self._publish(self._still(), update=True)
        if self._widget is not None:
            # A page that was closed meanwhile loads a file with the widget, and still finds it
            # here. An open page replaces the widget, and reports that it is gone.
            self._widget.html = str(self.view.html(live=False))
            _stills.append(self)
            while len(_stills) > _MOST_STILLS:
                _stills.popleft().close()

    def notify(self) -> None:
        """Have pages notify of the end, unless their user decides otherwise."""
        if self._widget is not None and self.is_open:
            self._widget.bell = True

    def _notify_of_end(self) -> None:
        notice = self.view.end_notice()
        if notice is not None and self._widget is not None:
            title, body = map(printable, notice)
            # Before the display is replaced. Displays of one handle have one notification.
            tag = f"nbqueue-{id(self.view.subject)}"
            self._widget.send({"kind": "ended", "title": title, "body": body, "tag": tag})

    def bring_up_to_date(self, view: View) -> None:
        """Show a view of the same handle instead, if this display is settled."""
        if not self.is_open:
            self.view = view
            self._publish(self._still(), update=True)

    def close(self) -> None:
        """Close the widget: no page needs it."""
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()
            # A widget does not close the model of its layout.
            widget.layout.close()

    def give_up(self) -> None:
        """Stop drawing it, and leave its last picture: its view raised an error."""
        with self._settling:
            was_open, self.is_open = self.is_open, False
        if was_open:
            self._leave()

    def _leave(self) -> None:
        _flusher.remove(self)
        self.view.ended(self)

    # --- Called by the flusher -----------------------------------------------------------------

    def draw(self) -> None:
        """Send the current HTML if it changed and a page shows it."""
        self.is_dirty = False
        if self.view.is_final:
            self.settle()
        elif self._widget is None:
            pass  # a front end without widgets keeps the first snapshot until the end
        elif self._is_seen:
            done = dict(self._done)
            html = self._live_html()
            if html != self._drawn or done != self._widget.done:
                self._drawn = html
                with self._widget.hold_sync():
                    self._widget.done = done
                    self._widget.html = str(html)

    def look(self, now: float, hearing_since: float) -> None:
        """Note that no page shows it, after a silence that is long enough.

        A page would have answered in that time.
        """
        if self._widget is None or not self._is_seen:
            return
        if now - max(self._pinged_at, hearing_since) > SILENCE_SECONDS:
            self._is_seen = False
            self.view.is_seen(False)

    # --- From the page --------------------------------------------------------------------------

    def _on_message(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        if content.get("kind") == "ping":
            self._pinged(str(content.get("page", "")))
        elif content.get("kind") == "gone":
            self._gone(str(content.get("page", "")))
        elif content.get("kind") == "act":
            page = str(content.get("page", ""))
            self._pinged(page)
            self._acting_page = page
            try:
                self._problem = ""
                self.view.act(str(content.get("action", "")), dict(content.get("args") or {}))
            except Exception as error:
                log.debug("an action of a view failed", exc_info=True)
                self._problem = f"{type(error).__name__}: {error}"
            self._count_action(page, content.get("number"))
            self.changed()

    def _count_action(self, page: str, number: Any) -> None:
        """Note that an action was carried out: from then on its page trusts what it is sent."""
        if page and isinstance(number, int):
            self._done.pop(page, None)
            self._done[page] = number
            while len(self._done) > _MOST_PAGES:
                del self._done[next(iter(self._done))]

    def send_file(self, name: str, text: str) -> None:
        """Have the page that acted last save a file."""
        if self._widget is not None:
            self._widget.send(
                {"kind": "file", "page": self._acting_page, "name": name, "text": text}
            )

    def _pinged(self, page: str) -> None:
        self._pinged_at = time.monotonic()
        if page:
            self._pages.add(page)
        if not self._is_seen:
            self._is_seen = True
            self.view.is_seen(True)
            self.changed()

    def _gone(self, page: str) -> None:
        """Note that a page no longer has the view: it was settled there, or cleared."""
        self._pages.discard(page)
        if self._pages:
            return
        if not self.is_open:
            if self in _stills:
                _stills.remove(self)
            self.close()
        elif self._is_seen:
            self._is_seen = False
            self.view.is_seen(False)

    def _live_html(self) -> Markup:
        html = self.view.html(live=True)
        return html + problem(self._problem) if self._problem else html

    def _still(self) -> dict[str, Any]:
        return {"text/plain": self.view.text(), "text/html": str(self.view.html(live=False))}

    def _publish(self, bundle: dict[str, Any], *, update: bool) -> None:
        self._shell.display_pub.publish(
            bundle, {}, transient={"display_id": self._display_id}, update=update
        )


class _Flusher:
    """The thread that draws. It runs while a view is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: list[Shown] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._hearing_since = 0.0
        self._heard_at = 0.0

    def add(self, shown: Shown) -> None:
        with self._lock:
            self._shown.append(shown)
            if self._thread is None:
                self._loop = _running_loop()
                self._hearing_since = self._heard_at = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="nbqueue-views", daemon=True)
                self._thread.start()
        self._wake.set()

    @property
    def shown(self) -> list[Shown]:
        """The open displays."""
        return list(self._shown)

    def remove(self, shown: Shown) -> None:
        with self._lock:
            if shown in self._shown:
                self._shown.remove(shown)

    def wake(self) -> None:
        self._wake.set()

    def settle_ended(self) -> None:
        """Settle displays that became final, so that the cell that ends saves them so."""
        for shown in self.shown:
            self._guarded(shown, lambda each: each.settle() if each.view.is_final else None)
        while _unsaved:
            self._guarded(_unsaved.popleft(), lambda e: e._publish(e._still(), update=True))

    def _run(self) -> None:
        ticked_at = time.monotonic()
        while True:
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                shown = list(self._shown)
                if not shown:
                    self._thread = None
                    return
            if now - ticked_at >= TICK_SECONDS:
                ticked_at = now
                self._tick(shown, now)
            drew = [self._guarded(each, _draw) for each in shown]
            if any(drew):
                # This pause bounds the number of messages, however often things change.
                threading.Event().wait(1 / DRAWS_A_SECOND)

    def _tick(self, shown: list[Shown], now: float) -> None:
        self._listen(now)
        for each in shown:
            if each.view.ticks:
                each.is_dirty = True
            self._guarded(each, lambda each: each.look(now, self._hearing_since))

    def _listen(self, now: float) -> None:
        """Measure for how long the kernel's loop has been free to receive messages."""
        if now - self._heard_at > 3 * TICK_SECONDS:
            self._hearing_since = now
        loop = self._loop
        if loop is None or loop.is_closed():
            return

        def heard() -> None:
            self._heard_at = time.monotonic()

        try:
            loop.call_soon_threadsafe(heard)
        except RuntimeError:
            pass  # it has just been closed

    @staticmethod
    def _guarded(shown: Shown, act: Callable[[Shown], object]) -> bool:
        """Return whether ``act`` did anything. A view that raises is given up."""
        try:
            return bool(act(shown))
        except Exception:
            # An error in one view must not stop the others, nor fill the log.
            log.exception("a view could not be drawn, and is given up")
            try:
                shown.give_up()
            except Exception:
                log.debug("a view could not be ended", exc_info=True)
            return False


def _draw(shown: Shown) -> bool:
    if not shown.is_dirty and not shown.view.is_final:
        return False
    shown.draw()
    return True


_flusher = _Flusher()
_stills: deque[Shown] = deque()
"""Settled displays whose widgets a page may still load, oldest first."""
_shown_by_waits: list[Shown] = []
"""Displays that waits of the running cell opened."""
_unsaved: deque[Shown] = deque(maxlen=_MOST_STILLS)
"""Displays settled by the thread that draws, maybe between two cells.

nbclient, running a notebook without a page, drops such messages: they are sent once more after the
next cell.
"""


def _settle_after_cells(shell: Any) -> None:
    """Settle ended views at the end of each cell, when front ends save its output."""
    events = getattr(shell, "events", None)
    if events is not None and not getattr(shell, "_nbqueue_settles", False):
        shell._nbqueue_settles = True
        events.register("post_run_cell", _on_cell_end)


def _on_cell_end(result: Any) -> None:
    _flusher.settle_ended()
    _shown_by_waits.clear()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
