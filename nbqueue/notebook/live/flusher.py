"""`Flusher`: the thread that draws all live views of a kernel."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbqueue.notebook.live.shown import Shown

log = logging.getLogger("nbqueue.notebook")

DRAWS_A_SECOND = 4
TICK_SECONDS = 1.0


class Flusher:
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
            drew = [self.guarded(each, _draw) for each in shown]
            if any(drew):
                # This pause bounds the number of messages, however often things change.
                threading.Event().wait(1 / DRAWS_A_SECOND)

    def _tick(self, shown: list[Shown], now: float) -> None:
        self._listen(now)
        for each in shown:
            if each.view.ticks:
                each.is_dirty = True
            self.guarded(each, lambda each: each.look(now, self._hearing_since))
            self.guarded(each, lambda each: each.save_if_due(now, self._hearing_since))

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
    def guarded(shown: Shown, act: Callable[[Shown], object]) -> bool:
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


FLUSHER = Flusher()


def _draw(shown: Shown) -> bool:
    if not shown.is_dirty and not shown.view.is_final:
        return False
    shown.draw()
    return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
