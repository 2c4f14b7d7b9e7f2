"""`ObstacleWatch`: finds obstacles in the background, for everything that shows them.

A thread reads the store once a second at most, for all that is shown or waited for together, while
something is. An unreachable store delays that thread only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from nbqueue.broker.broker import Broker
from nbqueue.client.obstacles.find_obstacles import find_obstacles, obstacles_of_queues
from nbqueue.client.obstacles.obstacle import Obstacle
from nbqueue.client.obstacles.other_stores import OtherWorker, find_elsewhere
from nbqueue.client.obstacles.remedies import surroundings_of
from nbqueue.client.obstacles.store_facts import TAKES, FactReader, QueueFacts, StoreFacts, Wanted
from nbqueue.errors import StoreError

if TYPE_CHECKING:
    from nbqueue.store.connection import Store

log = logging.getLogger("nbqueue.client")

Found = tuple[Obstacle, ...]

READ_SECONDS = 1.0
"""The time between two reads."""
FIRST_SECONDS = 0.5
"""The time for which something is waited for before it is looked at."""
DEFAULT_QUEUE = "default"
ANY = ""
"""In place of a name: the queues of the store, as many as are looked at."""
_PATIENCE_SECONDS = 0.25
"""The longest time that a question waits for a read."""
_LINGER_SECONDS = 3.0
_AWAY_SECONDS = 5.0
_ELSEWHERE_SECONDS = 5.0
_MOST_QUEUES = 50


class _Follower:
    """Something that is shown or waited for."""

    def __init__(
        self, wanted: Callable[[], Wanted], on_change: Callable[[Found], object], begin: float
    ) -> None:
        self.wanted = wanted
        self.on_change = on_change
        self.begin = begin
        self.last: Found = ()


class ObstacleWatch:
    """The obstacles of tasks and queues of one store. Safe for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._followers: list[_Follower] = []
        self._questions: list[Wanted] = []
        self._queues: dict[str, float] = {}
        """Queues that a panel shows, and until when."""
        self._facts: StoreFacts | None = None
        self._read_at = -READ_SECONDS
        self._away_until = 0.0
        self._reads = 0
        self._thread: threading.Thread | None = None
        self._elsewhere: dict[str, tuple[float, tuple[OtherWorker, ...]]] = {}
        self._said: set[tuple[str, str]] = set()
        self._is_closed = False

    def follow(
        self,
        wanted: Callable[[], Wanted],
        on_change: Callable[[Found], object],
        after: float = FIRST_SECONDS,
    ) -> Callable[[], None]:
        """Call ``on_change`` with the obstacles of what ``wanted`` returns, when they change.

        That begins in ``after`` seconds, and at first there are none. Both are called in the
        thread that reads. Returns a function that ends it.
        """
        follower = _Follower(wanted, on_change, time.monotonic() + after)
        with self._changed:
            if not self._is_closed:
                self._followers.append(follower)
                self._wake()

        def stop() -> None:
            with self._changed:
                if follower in self._followers:
                    self._followers.remove(follower)

        return stop

    def look(self, wanted: Wanted) -> Found:
        """Return the obstacles now, or none if the store does not answer in a moment."""
        facts = self._facts_about(wanted)
        return () if facts is None else self._judged(facts, wanted)

    def look_at_store(self) -> Found:
        """Return the obstacles of queues whose tasks wait, else of the default one; see `look`."""
        facts = self._facts_about({ANY: ()})
        if facts is None:
            return ()
        busy = [
            queue
            for queue, each in facts.queues.items()
            if queue != ANY and (each.pending or each.parked)
        ]
        return self._judged(facts, dict.fromkeys(busy or [DEFAULT_QUEUE], ()))

    def known_of_queues(self, queues: Iterable[str]) -> dict[str, Found]:
        """Return the last known obstacles of queues, and have them read; waits for nothing.

        For a panel, which asks again at each draw.
        """
        names = list(queues)[:_MOST_QUEUES]
        with self._changed:
            if self._is_closed:
                return {}
            self._queues.update(dict.fromkeys(names, time.monotonic() + _LINGER_SECONDS))
            self._wake()
            facts = self._facts
        if facts is None:
            return {}
        return obstacles_of_queues(facts, names, surroundings_of(self._store.url))

    def note_said(self, reasons: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Note that these obstacles, and no others, are known to the user; return the new ones."""
        with self._changed:
            new = reasons - self._said
            self._said = reasons
            return new

    def close(self) -> None:
        """Read the store no more. There are no obstacles then."""
        with self._changed:
            self._is_closed = True
            self._followers.clear()
            self._queues.clear()
            self._changed.notify_all()

    def _judged(self, facts: StoreFacts, wanted: Wanted) -> Found:
        around = surroundings_of(self._store.url)
        found: dict[Obstacle, None] = {}
        for queue, ids in wanted.items():
            tasks = [facts.tasks[queue, i] for i in ids if (queue, i) in facts.tasks]
            of_queue = find_obstacles(facts, queue, tasks if ids else None, around)
            found |= dict.fromkeys(of_queue)
        return tuple(found)

    def _facts_about(self, wanted: Wanted) -> StoreFacts | None:
        with self._changed:
            now = time.monotonic()
            if self._is_closed or now < self._away_until:
                return None
            facts = self._facts
            if facts is not None and now - self._read_at < READ_SECONDS and _cover(facts, wanted):
                return facts
            self._questions.append(wanted)
            self._wake()
            reads = self._reads
            if not self._changed.wait_for(lambda: self._reads > reads, _PATIENCE_SECONDS):
                return None
            return self._facts

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nbqueue-obstacles", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    # --- In the thread that reads --------------------------------------------------------------

    def _run(self) -> None:
        broker: Broker | None = None
        try:
            while self._wait_until_due():
                try:
                    if broker is None:
                        broker = Broker(self._store, patience=0.0)
                    self._read(broker)
                except StoreError as error:
                    log.debug("obstacles are not known now error=%s", error)
                    self._failed()
                except Exception:
                    log.exception("obstacles could not be found")
                    self._failed()
        finally:
            if broker is not None:
                broker.close()

    def _wait_until_due(self) -> bool:
        """Wait until the store is to be read; return False if nothing needs it any more."""
        with self._changed:
            idle_at = time.monotonic() + _LINGER_SECONDS
            while True:
                now = time.monotonic()
                self._queues = {queue: at for queue, at in self._queues.items() if at > now}
                begin = [follower.begin for follower in self._followers]
                begin += [now] if self._queues else []
                due = max(self._read_at + READ_SECONDS, self._away_until, min(begin, default=now))
                if self._questions or (begin and due <= now):
                    return True
                if begin:
                    idle_at = now + _LINGER_SECONDS
                elif idle_at <= now:
                    self._thread = None
                    return False
                self._changed.wait((due if begin else idle_at) - now)

    def _read(self, broker: Broker) -> None:
        with self._changed:
            now = time.monotonic()
            followers = [each for each in self._followers if each.begin <= now]
            questions, self._questions = self._questions, []
            queues = [*self._queues]
        wants = [(follower, dict(follower.wanted())) for follower in followers]
        wanted: dict[str, dict[str, None]] = {queue: {} for queue in queues}
        for each in (*questions, *(want for _, want in wants)):
            for queue, ids in each.items():
                wanted.setdefault(queue, {}).update(dict.fromkeys(ids))
        is_any = wanted.pop(ANY, None) is not None
        for queue in (DEFAULT_QUEUE, *broker.queues()[:_MOST_QUEUES]) if is_any else ():
            wanted.setdefault(queue, {})
        facts = FactReader(broker).read({queue: [*ids] for queue, ids in wanted.items()})
        if is_any:
            facts = facts._replace(queues={**facts.queues, ANY: QueueFacts()})
        facts = facts._replace(elsewhere=self._find_elsewhere(facts))
        with self._changed:
            self._facts, self._read_at, self._away_until = facts, time.monotonic(), 0.0
            self._reads += 1
            self._changed.notify_all()
        for follower, want in wants:
            self._pass_on(follower, self._judged(facts, want))

    def _find_elsewhere(self, facts: StoreFacts) -> dict[str, tuple[OtherWorker, ...]]:
        """Look at other stores for workers of queues that none serves here, now and then."""
        now = time.monotonic()
        unserved = [
            queue
            for queue, each in facts.queues.items()
            if queue != ANY and not any(record.status in TAKES for record in each.workers)
        ]
        due = [
            q for q in unserved if now - self._elsewhere.get(q, (-60.0, ()))[0] > _ELSEWHERE_SECONDS
        ]
        if due:
            found = find_elsewhere(self._store.url, due)
            self._elsewhere.update((queue, (now, found[queue])) for queue in due)
        self._elsewhere = {q: each for q, each in self._elsewhere.items() if q in unserved}
        return {queue: others for queue, (_, others) in self._elsewhere.items()}

    def _failed(self) -> None:
        with self._changed:
            self._facts = None
            self._read_at = time.monotonic()
            self._away_until = self._read_at + _AWAY_SECONDS
            self._questions.clear()
            self._reads += 1
            self._changed.notify_all()
            followers = list(self._followers)
        for follower in followers:
            self._pass_on(follower, ())

    def _pass_on(self, follower: _Follower, found: Found) -> None:
        with self._changed:
            if follower not in self._followers or found == follower.last:
                return
            follower.last = found
        try:
            follower.on_change(found)
        except Exception:
            log.exception("an obstacle could not be passed on")


class NoObstacles(ObstacleWatch):
    """The obstacles of a client without a store: there are none."""

    def __init__(self) -> None:
        """Have no store."""

    def note_said(self, reasons: set[tuple[str, str]]) -> set[tuple[str, str]]:
        return reasons

    def close(self) -> None:
        """Do nothing."""

    def follow(
        self,
        wanted: Callable[[], Wanted],
        on_change: Callable[[Found], object],
        after: float = FIRST_SECONDS,
    ) -> Callable[[], None]:
        return lambda: None

    def look(self, wanted: Wanted) -> Found:
        return ()

    def look_at_store(self) -> Found:
        return ()

    def known_of_queues(self, queues: Iterable[str]) -> dict[str, Found]:
        return {}


def _cover(facts: StoreFacts, wanted: Wanted) -> bool:
    return all(
        queue in facts.queues and all((queue, i) in facts.tasks for i in ids)
        for queue, ids in wanted.items()
    )
