"""The thread that learns how tasks ended."""

from __future__ import annotations

import logging
import threading
import time

from nbqueue.client.channels.channel_listeners import ChannelListeners
from nbqueue.client.channels.inline_read import InlineRead
from nbqueue.client.channels.listener_connection import ListenerConnection
from nbqueue.client.channels.selector import WakeableSelector
from nbqueue.client.channels.subscription import CHECK_SECONDS, Subscription
from nbqueue.client.completion.dispatch import EndDispatcher
from nbqueue.client.completion.error_pauses import ErrorPauses
from nbqueue.client.completion.listener_state import ListenerState
from nbqueue.client.completion.missing_tasks import MissingTasks
from nbqueue.client.completion.polled_channels import POLL_SECONDS, PolledChannels
from nbqueue.client.results.outcome import RawOutcome, broken
from nbqueue.errors import StoreError
from nbqueue.store.connection import Store
from nbqueue.transport.nonblocking import ConnectionLost

CONFIRM_SECONDS = 2.0
"""Seconds to wait for the confirmation of a channel."""

_log = logging.getLogger("nbqueue.client")


class ListenerLoop:
    """Connects, subscribes, looks at tasks and reads messages, until it is stopped.

    `start` is called with the listener's lock held.
    """

    def __init__(
        self,
        store: Store,
        state: ListenerState,
        connection: ListenerConnection,
        selector: WakeableSelector,
        channels: ChannelListeners,
        inline_read: InlineRead,
        dispatcher: EndDispatcher,
    ) -> None:
        self._store = store
        self._state = state
        self._connection = connection
        self._selector = selector
        self._channels = channels
        self._inline_read = inline_read
        self._dispatcher = dispatcher
        self._polled = PolledChannels(store, state.tasks, channels)
        self._missing = MissingTasks(state.tasks)
        self.thread: threading.Thread | None = None
        """The thread, while it runs."""

    def start(self) -> None:
        """Start the thread, or wake it if it runs."""
        if self._state.is_stopping:
            return
        if self.thread is None:
            self._selector.open()
            self.thread = threading.Thread(target=self._run, name="nbqueue-listener", daemon=True)
            self.thread.start()
        elif not self.is_this_thread():
            self._selector.wake()

    def is_this_thread(self) -> bool:
        """True in the thread that delivers ends, which must not wait for one itself."""
        return threading.current_thread() is self.thread or self._inline_read.is_this_thread()

    def _run(self) -> None:
        pauses, dispatcher = ErrorPauses(self._store.url.redacted), self._dispatcher
        try:
            dispatcher.deliver_rest()
            while not self._state.is_stopping:
                try:
                    if self._turn():
                        pauses.note_success()
                    continue
                except (ConnectionLost, StoreError, OSError) as error:
                    self._disconnect()
                    if pauses.note_unreachable(error):
                        dispatcher.end_all(lambda _, error=error: RawOutcome("", error=error))  # type: ignore[misc]
                except Exception as error:
                    # A fault in nbqueue: futures must learn of it rather than wait for ever.
                    self._disconnect()
                    _log.exception("the listener of nbqueue failed, and begins anew")
                    if pauses.note_fault():
                        dispatcher.end_all(lambda task_id, error=error: broken(task_id, error))  # type: ignore[misc]
                self._selector.sleep(pauses.pause(), self._is_stopping)
        finally:
            self._disconnect()
            with self._state.lock:
                self.thread = None
                self._selector.close()

    def _is_stopping(self) -> bool:
        return self._state.is_stopping

    def _turn(self) -> bool:
        """Connect, subscribe, look, wait for something to happen and read, once.

        Returns whether all is well: subscribed, and all changes of that are confirmed.
        """
        subscription = self._connection.subscription
        if subscription is None:
            # With nothing to wait for, a stopped server is not started again.
            if self._is_needed():
                self._connect()
            else:
                self._selector.sleep(None, self._is_stopping)
            return False
        with self._state.lock:
            subscription.follow(self._channels.channels(self._state.tasks.channels))
        if self._inline_read.take_interrupted():
            self._dispatcher.deliver_rest()
            raise ConnectionLost("a thread was interrupted while it read")
        subscription.check_alive()
        subscription.flush()
        is_denied = subscription.is_denied
        subscribed = self._polled if is_denied else subscription
        self._channels.begin(subscribed, self._connection.broker)
        is_well = subscription.is_confirmed
        # Nothing else would notice a store that never answers.
        seconds = min(self._look(subscription), POLL_SECONDS if is_denied else CHECK_SECONDS)
        self._wait_and_read(subscription, seconds)
        return is_well

    def _wait_and_read(self, subscription: Subscription, seconds: float) -> None:
        inline_read = self._inline_read
        pause = self._reading_pause(subscription)
        if pause > 0:
            # Another thread reads.
            inline_read.is_listener_paused = True
            self._selector.wait(None, min(pause, seconds))
            inline_read.is_listener_paused = False
            return
        _, is_ready = self._selector.wait(subscription, seconds)
        if is_ready and self._reading_pause(subscription) <= 0:
            with inline_read.read_lock:
                subscription.flush()
                subscription.read()

    def _reading_pause(self, subscription: Subscription) -> float:
        """Return for how many seconds to leave the reading to another thread."""
        # Confirmations of changes must be read by this thread, as others wait for them.
        return self._inline_read.pause_left() if subscription.is_confirmed else 0.0

    def _is_needed(self) -> bool:
        with self._state.lock:
            is_awaited = self._state.channel_waits > 0 or bool(self._state.tasks)
            return is_awaited or bool(self._channels)

    def _connect(self) -> None:
        subscription = Subscription(self._store, self._on_message, self._on_confirmed)
        with self._state.lock:
            self._connection.opened(subscription)
            # Ends that were announced before this moment were missed.
            self._state.tasks.look_at_all_soon(time.monotonic())
            self._channels.restart()

    def _disconnect(self) -> None:
        with self._state.lock:
            self._connection.close()

    def _look(self, subscription: Subscription) -> float:
        """Look at tasks whose end may have been missed.

        Returns the seconds until the next look.
        """
        if not subscription.is_confirmed:
            # An end that comes after the look and before the confirmation would be missed.
            return CONFIRM_SECONDS
        now, state = time.monotonic(), self._state
        is_denied = subscription.is_denied
        with state.lock:
            missing = self._missing.take(self._polled if is_denied else subscription)
        for queue, task_ids in missing:
            self._dispatcher.end_missing(queue, task_ids)
        confirm_in = self._dispatcher.confirm_ends(now)
        with state.lock:
            if is_denied:
                self._polled.poll()
            chosen = state.tasks.next_look(now)
            if chosen is None:
                moments = (state.tasks.next_look_in(now), confirm_in, CHECK_SECONDS)
                return min(seconds for seconds in moments if seconds is not None)
        found_missing = self._dispatcher.look_at(chosen)
        if found_missing:
            with state.lock:
                self._missing.add(found_missing)
        return 0.0

    def _on_confirmed(self) -> None:
        with self._state.lock:
            self._state.changed.notify_all()
        # Looking is possible now, which is for the listener's thread: another one may be reading.
        self._selector.wake()

    def _on_message(self, channel: str, data: bytes) -> None:
        queue = self._state.tasks.queue_of(channel)
        if self._channels.dispatch(channel, data, self._connection.broker) or queue is None:
            return
        self._dispatcher.on_announcement(queue, channel, data)
