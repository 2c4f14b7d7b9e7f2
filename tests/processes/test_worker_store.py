"""A store that goes away, comes back, cuts connections, or is full."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waits import let_time_pass

from nbqueue.errors import UsageError
from nbqueue.transport.topology import ANYWHERE
from nbqueue.worker.worker import Worker, WorkerDidNotStart


def mark(path: str, word: str) -> str:
    with open(path, "a") as file:
        file.write(word + " ")
    return word


def wait_for_file(ran: str, go: str) -> str:
    with open(ran, "a") as file:
        file.write("x ")
    while not os.path.exists(go):
        time.sleep(0.01)
    return "done"


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def touch(path: str) -> None:
    with open(path, "w"):
        pass


class Gate:
    """A proxy between a worker and its store, which can delay or cut off answers.

    While it is not ``open``, answers for which ``hold`` is true wait.
    """

    def __init__(self, target: Path, path: Path) -> None:
        self.path = path
        self.open = threading.Event()
        self.open.set()
        self.hold: Callable[[bytes], bool] = lambda answer: True
        self._target = str(target)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut = 0
        self._threads: list[threading.Thread] = []
        self._thread(self._accept)

    def _thread(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            self._pairs.append((client, server))
            for come, go, gated in ((client, server, False), (server, client, True)):
                self._thread(self._carry, come, go, gated)

    def _carry(self, come: socket.socket, go: socket.socket, gated: bool) -> None:
        try:
            while data := come.recv(65536):
                if gated and not self.open.is_set() and self.hold(data):
                    self.open.wait()
                go.sendall(data)
        except OSError:
            pass
        finally:
            shut(come, go)

    def cut(self) -> None:
        """Drop all connections, with what is held back."""
        for pair in self._pairs[self._cut :]:
            shut(*pair)
        self._cut = len(self._pairs)

    def close(self) -> None:
        shut(self._listener)
        self.open.set()
        for pair in self._pairs:
            shut(*pair)
        for thread in self._threads:
            thread.join(5)
        for each in (self._listener, *(end for pair in self._pairs for end in pair)):
            each.close()


def shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gate(lab: Any) -> Any:
    made = Gate(lab.server.socket, lab.server.folder / "gate")
    yield made
    made.close()


def test_a_store_that_is_not_there_is_a_clear_error_of_start(tmp_path: Path) -> None:
    worker = Worker(f"unix://{tmp_path}/nobody", concurrency=1)
    with pytest.raises(WorkerDidNotStart, match="cannot be reached"):
        worker.start()
    assert not worker.is_running
    assert worker.pid is None


def test_a_wrong_url_is_a_clear_error_of_start() -> None:
    with pytest.raises((WorkerDidNotStart, UsageError), match="mysql"):
        Worker("mysql://localhost", concurrency=1).start()


def test_a_malformed_key_is_a_clear_error_of_start(lab: Any) -> None:
    with pytest.raises(WorkerDidNotStart, match="NBQUEUE_KEY"):
        lab.start_worker(key="short")


def test_a_killed_store_loses_nothing_that_runs_or_waits(lab: Any) -> None:
    with lab.worker() as worker:
        running = lab.submit(wait_for_file, lab.mark_file("ran"), lab.mark_file("go"))
        ending = lab.submit(wait_for_file, lab.mark_file("ran2"), lab.mark_file("go2"))
        waiting = lab.submit_many(nap, [(0.001,)] * 50)
        lab.wait_until(lambda: lab.marks("ran") and lab.marks("ran2"))
        lab.server.kill()
        lab.wait_until(lambda: "store lost" in worker.log())
        touch(lab.mark_file("go2"))  # its result waits for the store
        lab.server.start()
        lab.wait_until(lambda: "store back" in worker.log())
        assert lab.value(ending) == "done"
        touch(lab.mark_file("go"))
        assert lab.value(running) == "done"
        lab.wait_for_all(waiting)
        for task in (running, ending, *waiting):
            assert lab.outcomes(task) == ["completed"]
        assert lab.marks("ran") == lab.marks("ran2") == ["x"]
        assert worker.alive
        assert lab.length("active") == lab.length("lease") == lab.length("pending") == 0


def test_a_store_killed_again_and_again_under_load_loses_no_task(lab: Any) -> None:
    with lab.worker(lease=2, shutdown_timeout=2) as worker:
        ids: list[str] = []
        for i in range(4):
            ids += lab.submit_many(mark, [(lab.mark_file("all"), f"{i}-{n}") for n in range(150)])
            seen = len(ids) - 100
            lab.wait_until(lambda seen=seen: len(lab.marks("all")) >= seen)
            lab.server.kill()
            lab.server.start()
        lab.wait_for_all(ids)
        assert set(lab.broker.states("default", ids)) == {"completed"}
        assert {f"{i}-{n}" for i in range(4) for n in range(150)} <= set(lab.marks("all"))
        lab.wait_until(lambda: lab.length("active") == lab.length("lease") == 0)
        assert worker.alive


def test_a_task_with_a_month_to_run_survives_the_loss_of_the_store(lab: Any) -> None:
    with lab.worker() as worker:
        task = lab.submit(
            wait_for_file, lab.mark_file("ran"), lab.mark_file("go"), timeout=60 * 86_400
        )
        lab.wait_until(lambda: lab.marks("ran"))
        lab.server.kill()
        lab.wait_until(lambda: "store lost" in worker.log())
        let_time_pass(0.7)  # long enough for it to try to connect and fail
        assert worker.alive, worker.log()[-2000:]
        lab.server.start()
        touch(lab.mark_file("go"))
        assert lab.value(task) == "done"


def test_each_connection_can_be_cut_and_the_work_goes_on(lab: Any) -> None:
    with lab.worker(lease=2) as worker:
        lab.value(lab.submit(nap, 0))
        own = lab.redis.client_id()
        mine = {own, lab.broker.call(("CLIENT", "ID"), on=ANYWHERE)[0]}
        kinds: set[str] = set()
        for turn in range(6):
            clients = [c for c in lab.redis.client_list() if int(c["id"]) not in mine]
            clients = [c for c in clients if int(c["id"]) not in mine]
            assert len(clients) >= 4, clients
            clients.sort(key=lambda c: int(c["id"]))
            victim = clients[turn % len(clients)]
            kinds.add(victim["cmd"])
            running = lab.submit(nap, 0.05)
            lost_before = worker.log().count("store back")
            lab.redis.client_kill_filter(_id=victim["id"])
            lab.wait_until(
                lambda before=lost_before: worker.log().count("store back") > before,
                5,
                f"for it to notice that {victim['cmd']} was cut",
            )
            assert lab.value(running) == "rested"
            assert lab.value(lab.submit(nap, 0)) == "rested"
        print("cut", kinds)
        assert worker.alive


def test_an_acknowledgement_whose_answer_was_lost_is_sent_again_and_counts_once(
    lab: Any, gate: Gate
) -> None:
    with lab.worker(url=gate.url) as worker:
        task = lab.submit(wait_for_file, lab.mark_file("ran"), lab.mark_file("go"))
        lab.wait_until(lambda: lab.marks("ran"))
        gate.open.clear()
        touch(lab.mark_file("go"))
        lab.wait_for(task, "completed")
        gate.cut()
        gate.open.set()
        lab.wait_until(lambda: "store back" in worker.log())
        assert lab.value(lab.submit(nap, 0)) == "rested"
        assert lab.outcomes(task) == ["completed"]
        assert lab.redis.get("asynq:{default}:processed") == b"2"
        # It had not lost the task, so a message about that would be wrong.
        assert "another worker has the task" not in worker.log()


def test_a_worker_told_to_end_while_tasks_are_on_their_way_to_it_gives_them_back(
    lab: Any, gate: Gate
) -> None:
    worker = lab.start_worker(url=gate.url, shutdown_timeout=3)
    lab.value(lab.submit(nap, 0))
    gate.hold = lambda answer: b"\x00nbq" in answer  # the tasks themselves
    gate.open.clear()
    late = lab.submit(nap, 0)
    lab.wait_for(late, "active")
    worker.signal(signal.SIGTERM)
    let_time_pass(0.3)
    gate.open.set()
    assert worker.wait() == 0
    assert lab.state(late) in ("pending", "completed"), "it waits for its lease to run out"


def test_a_full_store_does_not_end_a_worker(lab: Any) -> None:
    with lab.worker() as worker:
        running = lab.submit(wait_for_file, lab.mark_file("ran"), lab.mark_file("go"))
        lab.wait_until(lambda: lab.marks("ran"))
        lab.redis.set("asynq:{default}:paused", "1")
        waiting = lab.submit(nap, 0)
        lab.redis.config_set("maxmemory", 1)
        lab.redis.delete("asynq:{default}:paused")
        touch(lab.mark_file("go"))
        let_time_pass(1.5)
        assert worker.alive, worker.log()[-2000:]
        lab.redis.config_set("maxmemory", 0)
        assert lab.value(running) == "done"
        assert lab.outcomes(running) == ["completed"]
        assert lab.value(waiting) == "rested"


BUSY_SCRIPT = """
redis.call('PUBLISH', 'nbqueue:{default}:wake', 'now')
local function ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + now[2] / 1000
end
local limit = ms() + 1000
while ms() < limit do end
"""


def be_busy(lab: Any) -> None:
    """Run a slow script as another client, which wakes the worker first."""
    lab.redis.config_set("lua-time-limit", 50)
    lab.redis.eval(BUSY_SCRIPT, 0)


def be_a_replica(lab: Any) -> None:
    """Fail over: no writes until it is a master again."""
    lab.redis.replicaof("127.0.0.1", 1)
    lab.redis.publish("nbqueue:{default}:wake", "now")
    let_time_pass(1)
    lab.redis.replicaof("NO", "ONE")


@pytest.mark.parametrize("refuse", [be_busy, be_a_replica])
def test_a_result_that_the_store_refuses_for_a_while_is_not_lost(lab: Any, refuse: Any) -> None:
    with lab.worker(concurrency=1, lease=5) as worker:
        running = lab.submit(nap, 0.3)
        lab.wait_for(running, "active")
        refuse(lab)
        assert worker.alive, worker.log()[-2000:]
        assert lab.value(running) == "rested"
        assert lab.outcomes(running) == ["completed"]
        assert lab.value(lab.submit(nap, 0)) == "rested"


@pytest.mark.parametrize("refuse", [be_busy, be_a_replica])
def test_a_store_that_refuses_to_give_tasks_for_a_while_does_not_end_a_worker(
    lab: Any, refuse: Any
) -> None:
    with lab.worker() as worker:
        lab.value(lab.submit(nap, 0))
        lab.redis.set("asynq:{default}:paused", "1")
        task = lab.submit(nap, 0)
        # The worker looks at a paused queue once a second: this comes within its second.
        with lab.redis.pipeline() as pipeline:
            pipeline.delete("asynq:{default}:paused")
            if refuse is be_a_replica:
                pipeline.execute_command("REPLICAOF", "127.0.0.1", "1")
            pipeline.execute()
        refuse(lab)
        assert worker.alive, worker.log()[-2000:]
        assert lab.value(task) == "rested"


def test_a_worker_does_not_besiege_a_store_that_refuses(lab: Any) -> None:
    with lab.worker():
        lab.value(lab.submit(nap, 0))
        lab.redis.replicaof("127.0.0.1", 1)
        let_time_pass(0.5)
        before = lab.redis.info("stats")["total_commands_processed"]
        let_time_pass(1)
        asked = lab.redis.info("stats")["total_commands_processed"] - before
        print("commands a second", asked)
        assert asked < 500


def test_forgotten_scripts_are_loaded_again(lab: Any) -> None:
    with lab.worker():
        lab.value(lab.submit(nap, 0))
        lab.redis.script_flush()
        tasks = lab.submit_many(nap, [(0,)] * 20)
        lab.wait_for_all(tasks)
        assert {tuple(lab.outcomes(task)) for task in tasks} == {("completed",)}


def test_a_flushed_store_leaves_the_worker_fit_for_work(lab: Any) -> None:
    with lab.worker() as worker:
        lab.submit(wait_for_file, lab.mark_file("ran"), lab.mark_file("go"))
        lab.wait_until(lambda: lab.marks("ran"))
        lab.redis.flushall()
        lab.redis.script_flush()
        touch(lab.mark_file("go"))
        lab.wait_until(lambda: "lease lost" in worker.log())
        assert lab.value(lab.submit(nap, 0)) == "rested"


@pytest.mark.slow
def test_a_result_too_large_for_the_store_fails_its_task_only(lab: Any) -> None:
    """Redis takes 512 MB; here less, to be quick.

    It closes the connection of a client that sends more.
    """

    def give(n: int) -> bytes:
        return b"x" * n

    with lab.worker() as worker:
        lab.value(lab.submit(nap, 0))
        lab.redis.config_set("proto-max-bulk-len", 1 << 20)
        large = lab.submit(give, 3 << 20)
        lab.wait_for(large, "active", "archived")
        small = lab.submit(nap, 0.2)
        assert lab.value(small, seconds=5) == "rested"
        assert lab.wait_for(large, seconds=3).state == "archived"
        assert "lease lost" not in worker.log()
        assert worker.log().count("store lost") <= 3


def test_times_of_attempts_are_those_of_the_store(lab: Any) -> None:
    def store_ms() -> float:
        seconds, micros = lab.redis.time()
        return float(seconds * 1000 + micros / 1000)

    with lab.worker():
        for _ in range(3):
            before = store_ms()
            task = lab.submit(nap, 0.02)
            lab.value(task)
            after = store_ms()
            [row] = lab.attempts(task)
            started, finished = int(row["started_at"]), int(row["finished_at"])
            assert before - 50 <= started <= finished <= after + 50, (before, row, after)


def test_large_tasks_that_wait_for_a_worker_run_once(lab: Any) -> None:
    """A slow fetch must not be given back by the worker's later requests."""

    def mark_size(path: str, data: bytes) -> int:
        with open(path, "a") as file:
            file.write("x ")
        return len(data)

    data = os.urandom(2 << 20)
    ids = [lab.submit(mark_size, lab.mark_file("ran"), data) for _ in range(16)]
    with lab.worker(concurrency=16) as worker:
        lab.wait_for_all(ids)
        assert {tuple(lab.outcomes(task)) for task in ids} == {("completed",)}
        assert len(lab.marks("ran")) == 16
        assert "lease lost" not in worker.log()


def test_a_fetch_whose_answer_was_lost_is_made_good_at_once(lab: Any, gate: Gate) -> None:
    with lab.worker(url=gate.url) as worker:
        lab.value(lab.submit(nap, 0))
        gate.hold = lambda answer: b"\x00nbq" in answer
        gate.open.clear()
        task = lab.submit(nap, 0)
        lab.wait_for(task, "active")
        gate.cut()
        gate.open.set()
        assert lab.value(task, seconds=5) == "rested"
        assert lab.outcomes(task) == ["completed"]
        assert worker.alive


def test_a_task_that_is_on_its_way_to_a_worker_is_not_given_back_as_lost_on_the_way(
    lab: Any, gate: Gate
) -> None:
    task = lab.submit(mark, lab.mark_file("ran"), "x")
    # A list of what the worker holds names it; the answer to a fetch does not.
    gate.hold = lambda answer: b"\x00nbq" in answer and b"|" not in answer
    gate.open.clear()
    with lab.worker(url=gate.url) as worker:
        lab.wait_for(task, "active")
        let_time_pass(0.3)
        gate.open.set()
        lab.value(task)
        lab.value(lab.submit(nap, 0))
        assert lab.marks("ran") == ["x"]
        assert lab.events("requeued", task) == 0
        assert "lease lost" not in worker.log()
