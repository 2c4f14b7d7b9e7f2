"""`Shown`: one display of one view, live and saved."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from typing import Any

from markupsafe import Markup

from nbqueue.notebook.live.flusher import FLUSHER
from nbqueue.notebook.live.widget import make_widget
from nbqueue.notebook.view import View
from nbqueue.printable import printable
from nbqueue.views.html import element, problem

log = logging.getLogger("nbqueue.notebook")

SILENCE_SECONDS = 30.0
STILL_SECONDS = 9.0  # looked at once a second
CLOCK_STILL_SECONDS = 60.0
_ABSENCE_SECONDS = 120.0  # browsers let a hidden page report once a minute
_ANSWER_SECONDS = 15.0  # a page reports a new view at once
_MOST_STILLS = 200
_MOST_PAGES = 8
_LONGEST_PAGE = 40
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

_settled: deque[Shown] = deque()
"""Settled displays whose models pages may still need, oldest first."""
settled_in_thread: deque[Shown] = deque(maxlen=_MOST_STILLS)
"""Displays settled by the thread that draws, maybe between two cells."""


def _has_models_apart(shell: Any) -> bool:
    """Return whether the front end keeps models apart from the outputs of the notebook.

    There a model cannot find its still, and has to be displayed itself. VS Code has one page for
    the models of all notebooks, and Colab one for each output.
    """
    if "google.colab" in sys.modules or "__vsc_ipynb_file__" in getattr(shell, "user_ns", ()):
        return True
    # A Jupyter server that a terminal of VS Code started sets the second one.
    return "VSCODE_PID" in os.environ and "JPY_SESSION_NAME" not in os.environ


class Shown:
    """One display of one view."""

    def __init__(self, view: View, shell: Any) -> None:
        self.view = view
        self._shell = shell
        self._display_id = f"nbqueue-{time.monotonic_ns():x}"
        self._is_in_page = not _has_models_apart(shell)
        self._widget: Any = None
        self._drawn: str = ""
        self._problem = ""
        self._pages: set[str] = set()
        self._seen_at = self._heard_at = time.monotonic()
        self._is_seen = True
        self._was_reported = False
        self.is_open = False
        self.is_dirty = False
        self._is_following = False
        self._lock = threading.Lock()
        """Held to open, draw and settle it: the cell that ends and the thread that draws may."""
        self._saved_at = 0.0
        self._has_news = False
        self._still_number = 0
        self._done: dict[str, int] = {}
        """The number of the last action of each page that was carried out."""
        self._acting_page = ""

    def first(self) -> None:
        """Display the view for the first time."""
        is_live = not self.view.is_final
        if is_live or self._keeps_buttons:
            name = self._display_id if self._is_in_page else ""
            self._widget = make_widget(
                self._live_html(), self._on_message, still=name, live=is_live
            )
        with self._lock:
            self.is_open = is_live
            try:
                self.save_still(update=False)
            except BaseException:
                self.is_open = False
                self.close()
                raise
            if is_live:
                self._open()
            elif self._widget is not None:
                self._keep()

    def changed(self) -> None:
        """Have the view drawn again. Cheap; from any thread."""
        self._has_news = True
        self._redraw()

    def _redraw(self) -> None:
        if not self.is_dirty:
            self.is_dirty = True
            FLUSHER.wake()

    def _open(self) -> None:
        """Draw it from now on, and follow its work if that goes on."""
        self.is_open = True
        if not self.view.is_final:
            self._is_following = True
            if self._widget is not None:
                self._widget.live = True
            self.view.began(self)
        FLUSHER.add(self)

    def settle(self) -> None:
        """Replace the still by the end, and stop drawing the view."""
        with self._lock:
            # The cell that ends and the thread that draws may both have seen that it is final.
            if not self.is_open:
                return
            self.is_open = False
            if threading.current_thread() is not threading.main_thread():
                settled_in_thread.append(self)
            has_followed = self._leave()
            if has_followed:
                self._notify_of_end()
            self._show_end()

    def _show_end(self) -> None:
        self.save_still()
        if self._widget is not None:
            # A page that was closed meanwhile loads an older still, and finds the end here. An open
            # page whose new still has no name removes the live view, and reports that it is gone.
            html = self._live_html() if self._keeps_buttons else self.view.html(live=False)
            with self._widget.hold_sync():
                self._widget.live = False
                self._widget.done = dict(self._done)
                self._widget.html = self._drawn = str(html)
            self._keep()

    def _keep(self) -> None:
        """Keep the model of a settled view open, and close that of the oldest of too many."""
        if self not in _settled:
            _settled.append(self)
        while len(_settled) > _MOST_STILLS:
            _settled.popleft().close()

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
        with self._lock:
            if not self.is_open:
                self.view = view
                self._show_end()

    def close(self) -> None:
        """Close the model: no page needs it."""
        widget, self._widget = self._widget, None
        if widget is not None:
            widget.close()
            # A widget does not close the model of its layout.
            widget.layout.close()

    def give_up(self) -> None:
        """Stop drawing it, and leave its last picture: its view raised an error."""
        with self._lock:
            was_open, self.is_open = self.is_open, False
            if was_open:
                self._leave()

    def _leave(self) -> bool:
        """Draw and follow it no longer; return whether it was followed."""
        FLUSHER.remove(self)
        was_following, self._is_following = self._is_following, False
        if was_following:
            self.view.ended(self)
        return was_following

    # --- Called by the flusher and at the end of cells ------------------------------------------

    def draw(self) -> None:
        """Send the current HTML if it changed and a page shows it."""
        self.is_dirty = False
        if self.view.is_final:
            self.settle()
            return
        with self._lock:
            # A front end without widgets keeps the first still until the end.
            if self._widget is None or not (self.is_open and self._is_seen):
                return
            done = dict(self._done)
            html = str(self._live_html())
            if html != self._drawn or done != self._widget.done:
                self._drawn = html
                with self._widget.hold_sync():
                    self._widget.done = done
                    self._widget.html = html

    def look(self, now: float, hearing_since: float) -> None:
        """Note that no page shows it, after a silence that is long enough.

        A page would have answered in that time.
        """
        if self._widget is None or not self._is_seen:
            return
        if now - max(self._seen_at, hearing_since) > SILENCE_SECONDS:
            self._see(False)

    def save_if_due(self, now: float, hearing_since: float) -> None:
        """Replace the still, if it is old and a page may save it.

        ``hearing_since`` is when the kernel began to receive messages, or the end of a cell.
        """
        due = STILL_SECONDS if self._has_news else CLOCK_STILL_SECONDS
        if now - self._saved_at < due or self._widget is None or not self._is_in_page:
            return
        absence = _ABSENCE_SECONDS if self._was_reported else _ANSWER_SECONDS
        if now - max(self._heard_at, hearing_since) > absence:
            return
        with self._lock:
            if self.is_open:
                self.save_still()

    # --- From the page --------------------------------------------------------------------------

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        kind, page = content.get("kind"), str(content.get("page", ""))[:_LONGEST_PAGE]
        if kind == "ping":
            self._pinged(page, is_seen=content.get("seen") is not False)
        elif kind == "gone":
            self._gone(page)
        elif kind == "still":
            # A page that was opened later does not know the display of the output.
            self._widget.send({"kind": "still", "page": page, "data": self._still()})
        elif kind == "act":
            self._pinged(page)
            self._acting_page = page
            try:
                self._problem = ""
                self.view.act(str(content.get("action", "")), dict(content.get("args") or {}))
            except Exception as error:
                log.debug("an action of a view failed", exc_info=True)
                self._problem = f"{type(error).__name__}: {error}"
            self._count_action(page, content.get("number"))
            self._draw_action()

    def _count_action(self, page: str, number: Any) -> None:
        """Note that an action was carried out: from then on its page trusts what it is sent."""
        if page and isinstance(number, int):
            self._done.pop(page, None)
            self._done[page] = number
            while len(self._done) > _MOST_PAGES:
                del self._done[next(iter(self._done))]

    def _draw_action(self) -> None:
        """Have the effect of an action drawn; of one on a settled view, too."""
        with self._lock:
            if not self.is_open and self._widget is not None:
                if self in _settled:
                    _settled.remove(self)
                self._open()
        self.changed()

    def send_file(self, name: str, text: str) -> None:
        """Have the page that acted last save a file."""
        if self._widget is not None:
            self._widget.send(
                {"kind": "file", "page": self._acting_page, "name": name, "text": text}
            )

    def _pinged(self, page: str, *, is_seen: bool = True) -> None:
        self._heard_at = time.monotonic()
        self._was_reported = True
        if page and len(self._pages) < _MOST_PAGES:
            self._pages.add(page)
        if is_seen:
            self._seen_at = self._heard_at
            if not self._is_seen:
                self._see(True)

    def _gone(self, page: str) -> None:
        """Note that a page no longer has the view: it was settled there, cleared or collapsed."""
        self._pages.discard(page)
        if self._pages:
            return
        if not self.is_open:
            if self._keeps_buttons:
                return  # a collapsed output comes back
            if self in _settled:
                _settled.remove(self)
            self.close()
        elif self._is_seen:
            self._see(False)

    def _see(self, is_seen: bool) -> None:
        self._is_seen = is_seen
        self.view.is_seen(is_seen)
        if is_seen:
            self._redraw()

    # --- What is displayed ----------------------------------------------------------------------

    @property
    def _keeps_buttons(self) -> bool:
        """True if there is something to press after the end, where a model can show it."""
        return self._is_in_page and self.view.acts_at_end

    def _live_html(self) -> Markup:
        html = self.view.html(live=True)
        return html + problem(self._problem) if self._problem else html

    def save_still(self, *, update: bool = True) -> None:
        """Publish the still, which is what the notebook saves."""
        self._saved_at = time.monotonic()
        self._has_news = False
        self._still_number += update
        self._shell.display_pub.publish(
            self._still(), {}, transient={"display_id": self._display_id}, update=update
        )
        if update and self._widget is not None:
            self._widget.saved = self._still_number

    def _still(self) -> dict[str, Any]:
        html = self.view.html(live=False)
        bundle: dict[str, Any] = {"text/plain": self.view.text(), "text/html": str(html)}
        if self._widget is not None and (self.is_open or self._keeps_buttons):
            if self._is_in_page:
                number = str(self._still_number)
                html = element(
                    "div", html, data_nbqueue_view=self._display_id, data_nbqueue_still=number
                )
                bundle["text/html"] = str(html)
            else:
                version = {"version_major": 2, "version_minor": 0}
                bundle[WIDGET_MIME] = {**version, "model_id": self._widget.model_id}
        return bundle
