"""One thread per client that learns how tasks ended, and tells whoever waits for them.

The end of a task is announced on a channel (see ``broker/lua/lib/announce.lua``); the listener
subscribes *before* a task is enqueued. What an announcement can miss, looking finds: everything
outstanding after the connection was lost, a task that somebody attached to, and, in slow rounds,
tasks that a program in Go or a person with a tool finished, which announce nothing.

While the store is away the listener goes on trying, and waits go on: it may come back with
everything in it. An embedded server is started again by this, as long as something is waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from nbqueue.broker.broker import Broker
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.completion.awaited_tasks import AwaitedTasks, Sink
from nbqueue.client.completion.channels import ChannelListeners, Tell
from nbqueue.client.completion.dispatch import EndDispatcher
from nbqueue.client.completion.error_pauses import ErrorPauses
from nbqueue.client.completion.inline_read import InlineRead
from nbqueue.client.completion.local_cancellations import LocalCancellations
from nbqueue.client.completion.missing_tasks import MissingTasks
from nbqueue.client.completion.polled_channels import ASK_SECONDS, PolledChannels
from nbqueue.client.completion.registration import Registration
from nbqueue.client.completion.selector import WakeableSelector
from nbqueue.client.completion.subscription import CHECK_SECONDS, Subscription
from nbqueue.client.futures.outcome import GONE, RawOutcome, broken
from nbqueue.client.futures.waits import wait_for
from nbqueue.errors import StoreError
from nbqueue.store.connection import Store
from nbqueue.transport.nonblocking import ConnectionLost
from nbqueue.wire.keys import stored_keys

S = TypeVar("S", bound=Sink)

_CONFIRM_SECONDS = 2.0

_log = logging.getLogger("nbqueue.client")


class CompletionListener:
    """See the module. Everything public may be called from any thread."""

    def __init__(self, store: Store, own_prefix: str, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._tasks = AwaitedTasks(own_prefix)
        self._stopping = False
        self._end_when_stopped: Callable[[str], RawOutcome] | None = None
        self._reset()

    def _reset(self) -> None:
        # Where it is only taken, and not waited on, it is taken as such: the methods of a condition
        # are of Python, and Ctrl-C within them would leave it held for ever.
        self._mutex = threading.RLock()
        self._lock = threading.Condition(self._mutex)
        self._thread: threading.Thread | None = None
        self._alarm: WakeableSelector | None = None
        self._link: Subscription | None = None
        self._broker: Broker | None = None
        self._generation = 0
        self._askers = 0
        self._hearers = ChannelListeners()
        self._asking = PolledChannels(self._store, self._tasks, self._hearers)
        self._departures = MissingTasks(self._tasks)
        self._leading = InlineRead(lambda: self._link, self._wake_thread)
        self.cancelling = LocalCancellations(
            self._tasks, self._mutex, self._lock.notify_all, self._wake
        )
        self._telling = EndDispatcher(
            self._tasks,
            self._lock,
            self._leading,
            self._own_broker,
            self._keyring,
            self._wake_thread,
        )

    # --- What clients and futures call ---------------------------------------------------------

    def expect(self, queue: str, task_ids: Sequence[str], sink: Sink) -> int:
        """Tell ``sink`` of the end of tasks that are about to be enqueued, and hear of it.

        They have one channel. Returns the number of the connection on which that is heard, for
        `entered`; 0 if it could not be had at once: then tasks are looked at once it could.
        """
        channel = stored_keys(queue).end_channel(task_ids[0])
        with self._mutex:
            self._tasks.open_channel(queue, channel)
            generation = self._await_channel(channel)
            self._tasks.expect(queue, task_ids, sink)
            return generation

    def sending(self, queue: str, task_id: str, make: Callable[[], S]) -> Registration[S]:
        """The same for one task, whose sink is made by ``make`` once it was sent; see there."""

        channel = stored_keys(queue).end_channel(task_id)
        if not self._hears(channel):
            with self._mutex:
                self._tasks.open_channel(queue, channel)
                self._await_channel(channel)

        def heard_on() -> int:
            generation = self._generation  # before, as there may be another in a moment
            return generation if self._hears(channel) else 0

        def expect(sink: S) -> None:
            self._tasks.expect(queue, (task_id,), sink)

        return Registration(self._mutex, heard_on, expect, make)

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> int | None:
        """The same for a task whose id somebody chose, so that one of this id may exist.

        None, and nothing is expected, if another task of this id is waited for: that must either
        make the id a conflict, or be gone from the store; see `bereave`.
        """
        with self._mutex:
            self._await_written(queue, task_id)
            if self._tasks.sink_of(queue, task_id) is not None:
                return None
            channel = stored_keys(queue).end_channel(task_id)
            self._tasks.expect_named(queue, task_id, sink)
            return self._await_channel(channel)

    def bereave(self, queue: str, task_id: str) -> None:
        """Whoever waits for this task waits in vain, as it was just seen to be gone from the store:
        tell him how it ended if that was announced, and else that it is gone."""
        # What was announced before comes here before the answer to whatever is asked now. Nothing
        # is ever said on that channel.
        channel = f"{stored_keys(queue).ends}gone {task_id}"
        with self._mutex:
            self._tasks.follow(queue, channel)
            try:
                self._await_channel(channel)
            finally:
                self._tasks.leave(channel)
        sink = self.claim(queue, task_id)
        if sink is not None:
            sink._take(((task_id, RawOutcome(GONE)),))

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        """Do not tell ``sink`` of these tasks: they were not enqueued."""
        with self._mutex:
            self._tasks.forget(queue, task_ids, sink)
            self._lock.notify_all()

    def entered(
        self, queue: str, task_ids: Sequence[str], generation: int, is_message: bool = False
    ) -> None:
        """These tasks are in the store since `expect` returned ``generation``; ``is_message``:
        programs in Go may handle them."""
        with self._mutex:
            # The thread knows when to look next; it need not be woken for each task.
            is_first = self._tasks.enter(queue, task_ids, time.monotonic(), is_message)
            is_unheard = generation == 0 or generation != self._generation
            if is_unheard:
                # They may have ended while nobody listened.
                self._tasks.suspect(queue, task_ids)
            if is_first or is_unheard:
                self._start()
            if self._tasks.written(queue, task_ids):
                self._lock.notify_all()
        if self._stopping:
            self._end_if_stopped()

    def watch(self, queue: str, task_id: str, sink: Sink) -> Sink | None:
        """Tell ``sink`` of the end of a task that lies in the store already, or no more.

        Returns who waited for it before: he goes on instead of ``sink``.
        """
        with self._mutex:
            self._await_written(queue, task_id)
            waiting = self._tasks.watch(queue, task_id, sink, time.monotonic())
            self._start()
        self._end_if_stopped()
        return waiting

    def hear(self, channel: str, tell: Tell) -> None:
        """Call ``tell`` with each message of ``channel``; see `channels`."""
        with self._mutex:
            self._hearers.add(channel, tell)
            self._start()

    def unhear(self, channel: str, tell: Tell) -> None:
        """Do so no more. Twice is harmless."""
        with self._mutex:
            self._hearers.remove(channel, tell)
            self._wake()

    @property
    def is_connected(self) -> bool:
        """Whether the store was there a moment ago."""
        return self._link is not None

    def suspect(self, queue: str, task_id: str) -> None:
        """Look at this task at once: it was seen to have ended."""
        with self._mutex:
            self._tasks.suspect(queue, (task_id,))
        self._wake()

    def claim(self, queue: str, task_id: str) -> Sink | None:
        """Return the sink of this task, to be told of its end by the caller."""
        with self._mutex:
            self._lock.notify_all()
            return self._tasks.pop(queue, task_id)

    def heard_prefix(self, queue: str) -> str:
        """How the ids of the tasks begin whose ends this client hears by itself; empty if none."""
        prefix = self._tasks.own_prefix
        return prefix if self._hears(stored_keys(queue).end_channel(prefix)) else ""

    def outstanding(self, *, own: bool = False) -> list[tuple[str, str, Sink]]:
        """Queue, id and sink of each task that is waited for; or only of this client's own."""
        with self._mutex:
            return self._tasks.all(own=own)

    def wait_until_idle(self) -> None:
        """Wait until no task of this client's own is waited for."""
        with self._mutex:
            wait_for(self._lock, lambda: self._tasks.own_count == 0, None)

    def is_this_thread(self) -> bool:
        """True in the thread that takes in the ends, which must not wait for itself."""
        return threading.current_thread() is self._thread or self._leading.is_this_thread()

    def lead(self, is_over: Callable[[], bool]) -> None:
        """Take the place of the listener's thread for a moment, awake, until ``is_over``."""
        if not self.is_this_thread():
            self._leading.lead(is_over)

    def stop(self, end: Callable[[str], RawOutcome] | None = None, *, wait: bool = True) -> None:
        """Stop, and let what is outstanding have this end. Twice is harmless."""
        with self._mutex:
            self._stopping = True
            self._end_when_stopped = end
            thread = self._thread
            self._wake()
            self._lock.notify_all()
        if wait and thread is not None and thread is not threading.current_thread():
            # It may just be starting an embedded server; it ends when that is done.
            thread.join(timeout=5.0)
        self._end_if_stopped()

    def _end_if_stopped(self) -> None:
        # Also for what another thread submitted while this one closed the client.
        if self._stopping and self._end_when_stopped is not None:
            self._telling.end_all(self._end_when_stopped)

    # --- Under the lock ------------------------------------------------------------------------

    def _await_channel(self, channel: str) -> int:
        """Wait until whatever is said on a channel will be heard, if that can be had soon: returns
        the number of the connection, or else 0."""
        if self._hears(channel):
            return self._generation
        self._askers += 1
        self._start()
        if not self.is_this_thread():
            self._lock.wait_for(lambda: self._will_not_wait(channel), _CONFIRM_SECONDS)
        self._askers -= 1
        return self._generation if self._hears(channel) else 0

    def _await_written(self, queue: str, task_id: str) -> None:
        """Wait until it is known whether a task of this id, that is being written, exists."""
        self._lock.wait_for(lambda: self._stopping or not self._tasks.is_unwritten(queue, task_id))

    def _start(self) -> None:
        if self._stopping:
            return
        if self._thread is None:
            self._alarm = WakeableSelector()
            self._thread = threading.Thread(
                target=self._run, args=(self._alarm,), name="nbqueue-listener", daemon=True
            )
            self._thread.start()
        else:
            self._wake()

    def _wake(self) -> None:
        if not self.is_this_thread():
            self._wake_thread()

    def _wake_thread(self) -> None:
        alarm = self._alarm
        if alarm is not None:
            alarm.ring()

    def _will_not_wait(self, channel: str) -> bool:
        link = self._link
        return self._stopping or self._hears(channel) or (link is not None and link.is_deaf)

    def _hears(self, channel: str) -> bool:
        link = self._link
        return link is not None and link.hears(channel)

    # --- The thread ----------------------------------------------------------------------------

    def _run(self, alarm: WakeableSelector) -> None:
        trouble = ErrorPauses(self._store.url.redacted)
        try:
            self._telling.tell_untold()
            while not self._stopping:
                try:
                    if self._turn(alarm):
                        trouble.is_over()
                    continue
                except (ConnectionLost, StoreError, OSError) as error:
                    self._disconnect()
                    if trouble.away(error):
                        self._telling.end_all(lambda _, error=error: RawOutcome("", error=error))  # type: ignore[misc]
                except Exception as error:
                    # A fault of ours: whoever waits must learn of it rather than wait for ever.
                    self._disconnect()
                    _log.exception("the listener of nbqueue failed, and begins anew")
                    if trouble.fault():
                        self._telling.end_all(lambda task_id, error=error: broken(task_id, error))  # type: ignore[misc]
                alarm.sleep(trouble.pause(), lambda: self._stopping)
        finally:
            self._disconnect()
            with self._mutex:
                self._thread = None
                self._alarm = None
                alarm.close()

    def _turn(self, alarm: WakeableSelector) -> bool:
        """One round of the loop: connect, subscribe, look, wait for something to happen, read.

        Returns whether all is well: subscribed, and what was asked then was answered.
        """
        link = self._link
        if link is None:
            # With nothing to wait for, a server that was stopped is left in peace.
            if self._is_needed():
                self._connect()
            else:
                alarm.sleep(None, lambda: self._stopping)
            return False
        with self._mutex:
            link.follow(self._hearers.channels(self._tasks.channels))
        if self._leading.take_doubt():
            self._telling.tell_untold()
            raise ConnectionLost("a thread was interrupted while it read")
        link.check_alive()
        link.flush()
        self._hearers.greet(self._asking if link.is_deaf else link, self._own_broker)
        is_well = link.is_settled
        # Of a store that never answers nothing else would tell.
        seconds = min(self._look(link), ASK_SECONDS if link.is_deaf else CHECK_SECONDS)
        leading = self._leading
        parked = self._parked_for(link)
        if parked > 0:
            # Another thread hears the store.
            leading.is_parked = True
            alarm.wait(None, min(parked, seconds))
            leading.is_parked = False
            return is_well
        _, is_ready = alarm.wait(link, seconds)
        if is_ready and self._parked_for(link) <= 0:
            with leading.reading:
                link.flush()
                link.read()
        return is_well

    def _is_needed(self) -> bool:
        with self._mutex:
            return self._askers > 0 or bool(self._tasks) or bool(self._hearers)

    def _parked_for(self, link: Subscription) -> float:
        # Somebody waits for the answer to what the link was told: that is for the thread to hear.
        return self._leading.parked_for() if link.is_settled else 0.0

    def _connect(self) -> None:
        link = Subscription(self._store, self._on_message, self._on_settled)
        with self._mutex:
            self._link = link
            self._generation += 1
            # Ends that were announced before this moment were heard by nobody.
            self._tasks.suspect_all(time.monotonic())
            self._hearers.connected()

    def _disconnect(self) -> None:
        with self._mutex:
            link, self._link = self._link, None
            broker, self._broker = self._broker, None
        if link is not None:
            link.close()
        if broker is not None:
            broker.close()

    def _look(self, link: Subscription) -> float:
        """Look at tasks that may have ended unheard. Returns how long nothing is to be done."""
        if not link.is_settled:
            # An end that comes after the look and before the subscription would be missed.
            return _CONFIRM_SECONDS
        now = time.monotonic()
        with self._mutex:
            departed = self._departures.take(lambda channel: link.is_deaf or self._hears(channel))
        for queue, task_ids in departed:
            self._telling.gone(queue, task_ids)
        doubtful_in = self._telling.check_announced(now)
        with self._mutex:
            if link.is_deaf:
                self._asking.ask()
            chosen = self._tasks.next_look(now)
            if chosen is None:
                moments = (self._tasks.next_look_in(now), doubtful_in, CHECK_SECONDS)
                return min(seconds for seconds in moments if seconds is not None)
        gone = self._telling.look_at(chosen)
        if gone:
            with self._mutex:
                self._departures.add(gone)
        return 0.0

    def _own_broker(self) -> Broker:
        if self._broker is None:
            # One of its own: a client's other threads do not wait behind a long look. And without
            # patience: it is this loop that tries again, and meanwhile can be stopped.
            self._broker = Broker(self._store, patience=0.0)
        return self._broker

    def _on_settled(self) -> None:
        with self._mutex:
            self._lock.notify_all()
        # What can be done now, such as looking, is the thread's: it may be another that reads.
        self._wake_thread()

    def _on_message(self, channel: str, data: bytes) -> None:
        queue = self._tasks.queue_of(channel)
        if self._hearers.tell(channel, data, self._own_broker) or queue is None:
            return
        self._telling.announced(queue, channel, data)
