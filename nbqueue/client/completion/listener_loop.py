"""The thread that learns how tasks ended."""

from __future__ import annotations

import logging
import threading
import time

from nbqueue.client.channels.channel_listeners import ChannelListeners
from nbqueue.client.channels.cluster_subscription import AnySubscription
from nbqueue.client.channels.inline_read import InlineRead
from nbqueue.client.channels.listener_connection import ListenerConnection
from nbqueue.client.channels.subscription import CHECK_SECONDS
from nbqueue.client.completion.dispatch import EndDispatcher
from nbqueue.client.completion.error_pauses import ErrorPauses
from nbqueue.client.completion.listener_state import ListenerState
from nbqueue.client.completion.missing_tasks import MissingTasks
from nbqueue.client.completion.polled_channels import POLL_SECONDS, PolledChannels
from nbqueue.client.results.outcome import RawOutcome, broken
from nbqueue.errors import StoreError
from nbqueue.runtime.reactor import Reactor, Timer, poll_selector
from nbqueue.store.connection import Store
from nbqueue.transport.nonblocking import ConnectionLost

CONFIRM_SECONDS = 2.0
"""Seconds to wait for the confirmation of a channel."""

_log = logging.getLogger("nbqueue.client")


class ListenerLoop:
    """Connects, subscribes, looks at tasks and reads messages, until it is stopped.

    A turn of that follows each round of its event loop: after messages, when it was woken, and when
    something is due. `start` is called with the listener's lock held.
    """

    _reactor: Reactor

    def __init__(
        self,
        store: Store,
        state: ListenerState,
        connection: ListenerConnection,
        channels: ChannelListeners,
        inline_read: InlineRead,
        dispatcher: EndDispatcher,
    ) -> None:
        self._store = store
        self._state = state
        self._connection = connection
        self._channels = channels
        self._inline_read = inline_read
        self._dispatcher = dispatcher
        self._polled = PolledChannels(store, state.tasks, channels)
        self._missing = MissingTasks(state.tasks)
        self._pauses = ErrorPauses(store.url.redacted, store.longest_pause, store.failover_seconds)
        self._is_pausing = False
        self._is_well = False
        """True if the last turn left nothing to be confirmed by the server."""
        self._watched: tuple[AnySubscription, bool] | None = None
        """The subscription that is waited for, and whether until it takes bytes, too."""
        self._next_turn: Timer | None = None
        self.thread: threading.Thread | None = None
        """The thread, while it runs."""

    def start(self) -> None:
        """Start the thread, or wake it if it runs."""
        if self._state.is_stopping:
            return
        if self.thread is None:
            self._reactor = self._state.reactor = Reactor(poll_selector())
            self._reactor.every_round(self._on_round)
            self._watched = self._next_turn = None
            self._is_pausing = False
            self.thread = threading.Thread(target=self._run, name="nbqueue-listener", daemon=True)
            self.thread.start()
        self._state.wake()

    def _run(self) -> None:
        pauses, dispatcher = self._pauses, self._dispatcher
        try:
            dispatcher.deliver_rest()
            while not self._state.is_stopping:
                try:
                    self._reactor.run()
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
                self._is_pausing = True
                self._reactor.after(pauses.pause(), self._end_pause)
        finally:
            self._disconnect()
            with self._state.lock:
                self.thread = self._state.reactor = None
                self._reactor.close()

    def _end_pause(self) -> None:
        self._is_pausing = False

    def _on_round(self) -> None:
        if self._state.is_stopping:
            self._reactor.stop()
        elif not self._is_pausing:
            if self._is_well:
                self._pauses.note_success()
            self._is_well = self._turn()

    def _turn(self) -> bool:
        """Connect, subscribe and look, and wait for what comes next.

        Returns whether all is well: subscribed, and all changes of that are confirmed.
        """
        # With nothing to wait for, a stopped server is not started again.
        if self._connection.subscription is None and self._is_needed():
            self._connect()
        subscription = self._connection.subscription
        if subscription is None:
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
        longest = POLL_SECONDS if is_denied else subscription.check_seconds
        seconds = min(self._look(subscription), longest)
        pause = self._reading_pause(subscription)
        self._watch(subscription, is_paused=pause > 0)
        self._take_turn_in(min(pause, seconds) if pause > 0 else seconds)
        return is_well

    def _watch(self, subscription: AnySubscription, *, is_paused: bool) -> None:
        """Wait for messages, except while another thread reads them."""
        self._inline_read.is_listener_paused = is_paused
        wanted = None if is_paused else (subscription, subscription.wants_write)
        if wanted == self._watched:
            return
        self._watched = wanted
        if is_paused:
            self._reactor.forget(subscription)
        else:
            self._reactor.watch(
                subscription, self._read,
                on_writable=subscription.flush if subscription.wants_write else None,
            )  # fmt: skip

    def _take_turn_in(self, seconds: float) -> None:
        """Take a turn after a time, if none comes before."""
        timer = self._next_turn
        if timer is not None:
            # A turn that comes too early is harmless. A new timer for each turn would cost more.
            if timer.at <= self._reactor.now() + seconds:
                return
            timer.cancel()
        self._next_turn = self._reactor.after(seconds, self._on_time)

    def _on_time(self) -> None:
        self._next_turn = None  # the turn follows at the end of the round

    def _read(self) -> None:
        subscription, inline_read = self._connection.subscription, self._inline_read
        if subscription is not None and self._reading_pause(subscription) <= 0:
            with inline_read.read_lock:
                subscription.read()

    def _reading_pause(self, subscription: AnySubscription) -> float:
        """Return for how many seconds to leave the reading to another thread."""
        # Confirmations of changes must be read by this thread, as others wait for them.
        return self._inline_read.pause_left() if subscription.is_confirmed else 0.0

    def _is_needed(self) -> bool:
        with self._state.lock:
            is_awaited = self._state.channel_waits > 0 or bool(self._state.tasks)
            return is_awaited or bool(self._channels)

    def _connect(self) -> None:
        subscription = self._connection.new_subscription(
            self._dispatcher.on_message, self._on_confirmed
        )
        with self._state.lock:
            self._connection.opened(subscription)
            # Ends that were announced before this moment were missed.
            self._state.tasks.look_at_all_soon(time.monotonic())
            self._channels.restart()

    def _disconnect(self) -> None:
        self._is_well, self._watched = False, None
        with self._state.lock:
            subscription = self._connection.subscription
            if subscription is not None:
                self._reactor.forget(subscription)
            self._connection.close()

    def _look(self, subscription: AnySubscription) -> float:
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
        self._state.wake()
