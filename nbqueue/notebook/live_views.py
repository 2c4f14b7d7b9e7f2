"""What is shown live in a notebook: drawn by one thread, settled when its work ends.

A `View` says what there is to see, as text and as HTML, and what its buttons do. `show` displays
it with both forms, and with a widget on top where one can run. From then on the view says when it
changed (`Shown.changed`, cheap, from any thread), and one thread draws all that changed, at most
`DRAWS_A_SECOND` times a second together. A widget that nobody looks at is sent nothing. When the
view says that it is final, the display is *settled*: replaced by the same forms without the widget,
so that what is saved needs no kernel.

What nobody looks at: a page says every ten seconds that it is seen. A kernel that runs a cell
cannot hear that, so only time in which it could counts as silence.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from importlib import resources
from typing import Any

from nbqueue.views.html import problem

log = logging.getLogger("nbqueue.notebook")

DRAWS_A_SECOND = 4
TICK_SECONDS = 1.0
SILENCE_SECONDS = 30.0
_MOST_STILLS = 200
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class View:
    """Something to see. Subclasses say what; nothing here may wait for the store for long."""

    ticks = False
    """Whether it changes with time alone, such as one that says how long something has run."""

    subject: Any = None
    """The handle that it shows, if it shows one."""

    def text(self) -> str:
        """It as plain text, as it is now."""
        raise NotImplementedError

    def html(self, live: bool) -> str:
        """It as HTML, as it is now.

        ``live``: within a widget, with buttons. Else it is a snapshot, which says, if there is more
        to come, when it was taken and which line shows it live.
        """
        raise NotImplementedError

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more."""
        raise NotImplementedError

    def act(self, action: str, args: dict[str, Any]) -> None:
        """A button was pressed, or a field changed. An exception is shown in the view."""

    def began(self, shown: Shown) -> None:
        """It is shown: listen to what it depends on, and call ``shown.changed()``."""

    def ended(self, shown: Shown) -> None:
        """It is shown no longer there: stop listening."""

    def is_seen(self, seen: bool) -> None:
        """Somebody began, or nobody goes on, to look: what only serves the view may rest."""


def kernel_shell() -> Any:
    """The IPython shell of a kernel, or None: in a terminal, a script, a test."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def show(view: View) -> Shown | None:
    """Display ``view``; returns None where there is no notebook, and the text was printed."""
    shell = kernel_shell()
    if shell is None:
        print(view.text())  # noqa: T201 (a terminal: this is the display)
        return None
    shown = Shown(view, shell)
    shown.first()
    return shown


def is_shown(subject: Any) -> bool:
    """Whether a live view of this handle is open."""
    return any(shown.view.subject is subject for shown in _flusher.shown)


class Shown:
    """One display of one view."""

    def __init__(self, view: View, shell: Any) -> None:
        self.view = view
        self._shell = shell
        self._display_id = f"nbqueue-{time.monotonic_ns():x}"
        self._widget: Any = None
        self._drawn = ""
        self._problem = ""
        self._pages: set[str] = set()
        self._pinged_at = time.monotonic()
        self._is_seen = True
        self.is_open = False
        self.is_dirty = False
        self._settling = threading.Lock()

    def first(self) -> None:
        """Display it for the first time."""
        if self.view.is_final:
            self._publish(self._still(), update=False)
            return
        self._widget = _make_widget(self._live_html(), self._on_message)
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
        """There is something new to draw. Cheap; from any thread."""
        if not self.is_dirty:
            self.is_dirty = True
            _flusher.wake()

    def settle(self) -> None:
        """Replace it by what needs no kernel, as it is now, and draw it no more."""
        with self._settling:
            # The cell that ends and the thread that draws may both have seen that it is final.
            if not self.is_open:
                return
            self.is_open = False
            if threading.current_thread() is not threading.main_thread():
                _unsaved.append(self)
        self._leave()
        self._publish(self._still(), update=True)
        if self._widget is not None:
            # A page that was away meanwhile comes back to a file with the widget: it finds it here,
            # still. One that is there replaces it, and says so.
            self._widget.html = self.view.html(live=False)
            _stills.append(self)
            while len(_stills) > _MOST_STILLS:
                _stills.popleft().close()

    def close(self) -> None:
        """Take the widget away: no page needs it."""
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()
            # A widget leaves the model of its layout behind, for ever.
            widget.layout.close()

    def give_up(self) -> None:
        """Leave it as it was drawn last: its view is at fault."""
        with self._settling:
            was_open, self.is_open = self.is_open, False
        if was_open:
            self._leave()

    def _leave(self) -> None:
        _flusher.remove(self)
        self.view.ended(self)

    # --- Called by the flusher -----------------------------------------------------------------

    def draw(self) -> None:
        """Send what changed, if somebody looks."""
        self.is_dirty = False
        if self.view.is_final:
            self.settle()
        elif self._widget is None:
            pass  # a front end without widgets keeps the first snapshot until the end
        elif self._is_seen:
            html = self._live_html()
            if html != self._drawn:
                self._drawn = html
                self._widget.html = html

    def look(self, now: float, hearing_since: float) -> None:
        """Find out whether nobody looks: no sign for long, while one would have been heard."""
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
            self._pinged("")
            try:
                self._problem = ""
                self.view.act(str(content.get("action", "")), dict(content.get("args") or {}))
            except Exception as error:
                log.debug("an action of a view failed", exc_info=True)
                self._problem = f"{type(error).__name__}: {error}"
            self.changed()

    def _pinged(self, page: str) -> None:
        self._pinged_at = time.monotonic()
        if page:
            self._pages.add(page)
        if not self._is_seen:
            self._is_seen = True
            self.view.is_seen(True)
            self.changed()

    def _gone(self, page: str) -> None:
        """A page has the view no more: it was replaced by what is settled, or cleared."""
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

    def _live_html(self) -> str:
        html = self.view.html(live=True)
        return html + problem(self._problem) if self._problem else html

    def _still(self) -> dict[str, Any]:
        return {"text/plain": self.view.text(), "text/html": self.view.html(live=False)}

    def _publish(self, bundle: dict[str, Any], *, update: bool) -> None:
        self._shell.display_pub.publish(
            bundle, {}, transient={"display_id": self._display_id}, update=update
        )


class _Flusher:
    """The thread that draws. It lives while something is shown that may change."""

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
        """What is open now."""
        return list(self._shown)

    def remove(self, shown: Shown) -> None:
        with self._lock:
            if shown in self._shown:
                self._shown.remove(shown)

    def wake(self) -> None:
        self._wake.set()

    def settle_ended(self) -> None:
        """Settle now what has become final, so that a cell that ends shows it so."""
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
                # The pause is what bounds the messages, however often things change.
                threading.Event().wait(1 / DRAWS_A_SECOND)

    def _tick(self, shown: list[Shown], now: float) -> None:
        self._listen(now)
        for each in shown:
            if each.view.ticks:
                each.is_dirty = True
            self._guarded(each, lambda each: each.look(now, self._hearing_since))

    def _listen(self, now: float) -> None:
        """Notice since when the kernel's loop has been free, and so able to hear a page."""
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
        """Whether ``act`` did anything. A view at fault is given up."""
        try:
            return bool(act(shown))
        except Exception:
            # One view's fault must not stop the others, nor fill the log for ever.
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
"""What was settled and may still be asked for by a page that comes back, oldest first."""
_unsaved: deque[Shown] = deque(maxlen=_MOST_STILLS)
"""Settled by the thread that draws, maybe between two cells. nbclient, which runs notebooks without
a page, drops what is sent then: it is sent once more at the end of the next cell."""


def _settle_after_cells(shell: Any) -> None:
    """Settle what has ended at the end of each cell: what is read of it then is what is saved."""
    events = getattr(shell, "events", None)
    if events is not None and not getattr(shell, "_nbqueue_settles", False):
        shell._nbqueue_settles = True
        events.register("post_run_cell", lambda result: _flusher.settle_ended())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_widget_class: Any = None


def _make_widget(html: str, on_message: Any) -> Any:
    """A widget that draws ``html``, or None where widgets are not to be had."""
    global _widget_class
    if _widget_class is None:
        try:
            import anywidget
            import traitlets
        except ImportError:
            return None
        source = (resources.files("nbqueue.notebook") / "static" / "view.js").read_text("utf-8")

        class LiveHTML(anywidget.AnyWidget):  # type: ignore[misc]
            _esm = source
            html = traitlets.Unicode().tag(sync=True)

        _widget_class = LiveHTML
    widget = _widget_class(html=html)
    widget.on_msg(on_message)
    return widget
