"""The listener of a client, which learns how tasks ended and ends their futures.

The end of a task is announced on a channel (see ``broker/lua/lib/announce.lua``), to which the
listener subscribes *before* the task is written. An end can be missed: while the connection is
lost, of a task that is attached to later, or because a program in Go or a person with a tool
finished the task, which announces nothing. Such ends are found by looking at tasks in the store.

While the store is away the listener keeps trying and waits continue: it may come back with
everything in it. An embedded server is started again by this, as long as something is awaited.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.channels.channel_listeners import ChannelListeners, OnMessage
from nbqueue.client.channels.inline_read import InlineRead
from nbqueue.client.channels.listener_connection import ListenerConnection
from nbqueue.client.completion.awaited_tasks import Sink
from nbqueue.client.completion.dispatch import EndDispatcher
from nbqueue.client.completion.listener_loop import CONFIRM_SECONDS, ListenerLoop
from nbqueue.client.completion.listener_state import ListenerState
from nbqueue.client.completion.local_cancellations import LocalCancellations
from nbqueue.client.futures.waits import wait_for
from nbqueue.client.results.outcome import GONE, RawOutcome
from nbqueue.store.connection import Store
from nbqueue.wire.keys import stored_keys

_JOIN_SECONDS = 5.0


class CompletionListener:
    """Ends the futures and groups of one client. Any thread may call its public methods."""

    def __init__(self, store: Store, own_prefix: str, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._state = ListenerState(own_prefix)
        self._end_when_stopped: Callable[[str], RawOutcome] | None = None
        self._make_parts()

    def _make_parts(self) -> None:
        state = self._state
        self._connection = ListenerConnection(self._store)
        self._channels = ChannelListeners()
        self.inline_read = InlineRead(self._connection, state.wake)
        self._dispatcher = EndDispatcher(
            state, self._connection, self._channels, self.inline_read, self._keyring
        )
        self._loop = ListenerLoop(
            self._store, state, self._connection, self._channels, self.inline_read,
            self._dispatcher,
        )  # fmt: skip
        self.cancellations = LocalCancellations(state)

    # --- Writing tasks: see `Registration` -----------------------------------------------------

    def expect(self, queue: str, task_ids: Sequence[str], sink: Sink) -> int:
        """Register a sink for tasks that are about to be written, and subscribe to their channel.

        Returns the number of the connection that is subscribed; 0 if that takes too long. Then the
        tasks are looked at once they are written.
        """
        channel = stored_keys(queue).end_channel(task_ids[0])
        state, connection = self._state, self._connection
        with state.lock:
            if connection.is_subscribed(channel):
                number = connection.number
            else:
                state.tasks.open_channel(queue, channel)
                number = self._await_channel(channel)
            state.tasks.expect(queue, task_ids, sink)
            return number

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> int | None:
        """Register a sink for a task whose id was chosen.

        Another task may have that id already. Returns None, and registers nothing, if a task of
        this id is awaited. Either that makes the id a conflict, or it is gone from the store; see
        `end_missing`.
        """
        tasks = self._state.tasks
        with self._state.lock:
            self._await_written(queue, task_id)
            if tasks.sink_of(queue, task_id) is not None:
                return None
            tasks.expect_named(queue, task_id, sink)
            return self._await_channel(stored_keys(queue).end_channel(task_id))

    def written(
        self, queue: str, task_ids: Sequence[str], connection: int, is_message: bool
    ) -> None:
        """Note that tasks are in the store, for which `expect` returned ``connection``.

        ``is_message``: programs in Go may handle them.
        """
        state = self._state
        with state.lock:
            if state.tasks.unwritten:
                state.changed.notify_all()
            # The thread knows when to look next; it need not be woken for each task.
            is_first = state.tasks.note_written(queue, task_ids, time.monotonic(), is_message)
            is_missed = connection == 0 or connection != self._connection.number
            if is_missed:
                # Their ends may have been announced meanwhile.
                state.tasks.look_soon(queue, task_ids)
            if is_first or is_missed:
                self._loop.start()
        if state.is_stopping:
            self._end_if_stopped()

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        """Drop tasks that were not written."""
        with self._state.lock:
            self._state.tasks.forget(queue, task_ids, sink)
            self._state.changed.notify_all()

    def end_missing(self, queue: str, task_id: str) -> None:
        """End an awaited task that was just seen to be gone from the store.

        Its end is the announced one, if there is one.
        """
        # Earlier announcements are read before a change of the subscription is confirmed.
        # Nothing is ever published on that channel.
        channel = f"{stored_keys(queue).ends}gone {task_id}"
        with self._state.lock:
            self._state.tasks.follow(queue, channel)
            try:
                self._await_channel(channel)
            finally:
                self._state.tasks.leave(channel)
        sink = self.claim(queue, task_id)
        if sink is not None:
            sink._take(((task_id, RawOutcome(GONE)),))

    # --- Waiting for tasks ---------------------------------------------------------------------

    def watch(self, queue: str, task_id: str, sink: Sink) -> Sink | None:
        """Register a sink for a task that is in the store already, or is gone.

        Returns the sink that awaits it already, which stays in place of ``sink``.
        """
        state = self._state
        with state.lock:
            self._await_written(queue, task_id)
            earlier = state.tasks.attach(queue, task_id, sink, time.monotonic())
            self._loop.start()
        self._end_if_stopped()
        return earlier

    def watch_many(self, queue: str, task_ids: Sequence[str], sink: Sink) -> dict[str, Sink]:
        """Register a sink for many tasks that are in the store already, or gone.

        Returns the sinks that await some of them already, by id, which stay in place of ``sink``.
        """
        with self._state.lock:
            earlier = self._state.tasks.attach_many(queue, task_ids, sink, time.monotonic())
            self._loop.start()
        self._end_if_stopped()
        return earlier

    def look_soon(self, queue: str, task_id: str) -> None:
        """Look at a task at once, as it was seen to have ended."""
        with self._state.lock:
            self._state.tasks.look_soon(queue, (task_id,))
        self._state.wake()

    def claim(self, queue: str, task_id: str) -> Sink | None:
        """Take out the sink of a task, or None. The caller delivers its end."""
        with self._state.lock:
            self._state.changed.notify_all()
            return self._state.tasks.pop(queue, task_id)

    def is_this_thread(self) -> bool:
        """True in the thread that delivers ends, which must not wait for one itself."""
        return threading.current_thread() in (self._loop.thread, self.inline_read.thread)

    def outstanding(self, *, own: bool = False) -> list[tuple[str, str, Sink]]:
        """Return queue, id and sink of each awaited task, or only of this client's own."""
        with self._state.lock:
            return self._state.tasks.all(own=own)

    def wait_until_idle(self) -> None:
        """Wait until no task of this client's own is awaited."""
        with self._state.lock:
            wait_for(self._state.changed, lambda: self._state.tasks.own_count == 0, None)

    # --- Other channels ------------------------------------------------------------------------

    def subscribe(self, channel: str, callback: OnMessage) -> None:
        """Call ``callback`` with each message of ``channel``; see `OnMessage`."""
        with self._state.lock:
            self._channels.add(channel, callback)
            self._loop.start()

    def unsubscribe(self, channel: str, callback: OnMessage) -> None:
        """Undo `subscribe`. Doing so again is harmless."""
        with self._state.lock:
            self._channels.remove(channel, callback)
            self._state.wake()

    @property
    def is_connected(self) -> bool:
        """True if the store was there a moment ago."""
        return self._connection.subscription is not None

    def heard_prefix(self, queue: str) -> str:
        """Return how the ids begin of tasks whose ends are announced to this client; or ""."""
        prefix = self._state.tasks.own_prefix
        channel = stored_keys(queue).end_channel(prefix)
        return prefix if self._connection.is_subscribed(channel) else ""

    # --- Ending --------------------------------------------------------------------------------

    def stop(self, end: Callable[[str], RawOutcome] | None = None, *, wait: bool = True) -> None:
        """Stop the thread, and end all awaited tasks with ``end``. Doing so again is harmless."""
        with self._state.lock:
            self._state.is_stopping = True
            self._end_when_stopped = end
            thread = self._loop.thread
            self._state.wake()
            self._state.changed.notify_all()
        if wait and thread is not None and thread is not threading.current_thread():
            # It may just be starting an embedded server; it ends when that is done.
            thread.join(timeout=_JOIN_SECONDS)
        self._end_if_stopped()

    def _end_if_stopped(self) -> None:
        # Also for tasks that another thread submitted while this one closed the client.
        if self._state.is_stopping and self._end_when_stopped is not None:
            self._dispatcher.end_all(self._end_when_stopped)

    # --- Forking -------------------------------------------------------------------------------

    def hold(self, seconds: float) -> bool:
        """Let no other thread change anything until `release`. False if one did for too long."""
        return self._state.lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Undo `hold`."""
        self._state.lock.release()

    def after_fork(self, own_prefix: str) -> Iterable[Sink]:
        """Become the listener of a forked child; return the sinks that it has inherited.

        Their tasks are its parent's. It connects only when `resume` is called.
        """
        tasks, undelivered = self._state.tasks, self._dispatcher.undelivered
        tasks.inherit(own_prefix)
        self._state.reset()
        self._make_parts()
        self._dispatcher.inherit(undelivered)
        sinks = {id(sink): sink for _, _, sink in tasks.all()}
        sinks.update((id(sink), sink) for sink, _ in undelivered)
        return sinks.values()

    def resume(self) -> None:
        """Start the thread in a forked child, if something is awaited."""
        is_awaited = bool(self._state.tasks) or bool(self._dispatcher.undelivered)
        if self._loop.thread is None and is_awaited:
            with self._state.lock:
                self._loop.start()

    # --- With the lock held --------------------------------------------------------------------

    def _await_channel(self, channel: str) -> int:
        """Wait until a channel is subscribed to; return the connection's number, 0 if too late."""
        state, connection = self._state, self._connection
        if connection.is_subscribed(channel):
            return connection.number
        state.channel_waits += 1
        try:
            self._loop.start()
            if not self.is_this_thread():
                state.changed.wait_for(
                    lambda: (
                        state.is_stopping
                        or connection.is_denied
                        or connection.is_subscribed(channel)
                    ),
                    CONFIRM_SECONDS,
                )
        finally:
            state.channel_waits -= 1
        return connection.number if connection.is_subscribed(channel) else 0

    def _await_written(self, queue: str, task_id: str) -> None:
        """Wait while another thread writes a task with this chosen id, which may exist then."""
        state = self._state
        state.changed.wait_for(
            lambda: state.is_stopping or not state.tasks.is_unwritten(queue, task_id)
        )
