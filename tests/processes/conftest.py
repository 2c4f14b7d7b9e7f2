"""Fixtures of worker tests: a store that can be killed, raw calls, workers.

Everything that a `Lab` starts is ended with it, by process id, whatever the test did.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from waits import wait_until

from nbqueue.broker.broker import Broker
from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.broker.reads.task_record import TaskRecord
from nbqueue.calls import exceptions, functions, payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.errors import NoEmbeddedServer
from nbqueue.store import server_programs
from nbqueue.store.connection import connect
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage
from nbqueue.wire.task_events import ids_of
from nbqueue.worker.worker import Worker

KEY = "5b" * 32
ENDED = frozenset({"completed", "archived"})


def is_gone(pid: int) -> bool:
    """Return whether the process is gone or a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@functools.cache
def _protects_files(program: Path) -> bool:
    """Return whether the server refuses by default to move its files with CONFIG SET."""
    found = server_programs._examine(program)
    return isinstance(found, server_programs.ServerProgram) and found.level >= (7, 0, 0)


class Server:
    """A private Redis with an append-only file, which can be killed and restarted.

    It listens on a socket.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        # Not pytest's folder: the path of a socket may have 107 bytes only.
        self.folder = Path(tempfile.mkdtemp(prefix="nbq-"))
        self.socket = self.folder / "s"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        words = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        # Without fsync every write is in the file's cache before it is answered, and survives a
        # kill. With it Redis puts writes off while the disk is busy.
        words += ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        if _protects_files(self._program):
            words += ["--enable-protected-configs", "yes"]  # tests move the server's files
        log = open(self.folder / "log", "ab")  # noqa: SIM115
        with log:
            self.process = subprocess.Popen([str(self._program), *words], stdout=log, stderr=log)
        try:
            wait_until(self._answers)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with redis.Redis(unix_socket_path=str(self.socket)) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class RunningWorker:
    """A started worker, its processes, and its output."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        assert worker.pid is not None
        self.pid = worker.pid
        self.seen: set[int] = {worker.pid}
        self.executors()

    def executors(self) -> list[int]:
        try:
            children = psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []
        pids = []
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if child.status() != psutil.STATUS_ZOMBIE:
                    pids.append(child.pid)
        self.seen.update(pids)
        return pids

    def log(self) -> str:
        assert self.worker.log is not None
        return self.worker.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 40.0) -> int:
        """Wait for the process to end, and return its exit code."""
        process = self.worker._process
        assert process is not None
        return process.wait(seconds)

    @property
    def alive(self) -> bool:
        return self.worker.is_running

    def end(self) -> None:
        self.executors()
        for pid in self.seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        process = self.worker._process
        if process is not None:
            process.kill()
            process.wait()
        self.seen.discard(self.pid)
        for pid in self.seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                # Their numbers may belong to others by now.
                if "nbqueue" in " ".join(psutil.Process(pid).cmdline()):
                    end_process(pid)


class Lab:
    """A store and all that a test does with it, without the client."""

    wait_until = staticmethod(wait_until)
    is_gone = staticmethod(is_gone)

    def __init__(self, program: Path, folder: Path) -> None:
        self.server = Server(program)
        self.folder = folder
        self._workers: list[RunningWorker] = []
        self.keys = Keyring([bytes.fromhex(KEY)])
        self.store = connect(self.server.url)
        self.broker = Broker(self.store)
        self.redis = redis.Redis(unix_socket_path=str(self.server.socket))

    @property
    def url(self) -> str:
        return self.server.url

    def close(self) -> None:
        try:
            for worker in self._workers:
                worker.end()
        finally:
            self.broker.close()
            self.store.close()
            self.redis.close()
            self.server.close()

    # --- Workers ---

    def start_worker(self, *, url: str | None = None, key: str = KEY, **settings: Any) -> Any:
        settings.setdefault("concurrency", 2)
        settings.setdefault("log", self.folder / f"worker-{len(self._workers)}.log")
        worker = Worker(url or self.url, **settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NBQUEUE_KEY", key)
            worker.start()
        running = RunningWorker(worker)
        self._workers.append(running)
        return running

    @contextlib.contextmanager
    def worker(self, **settings: Any) -> Iterator[Any]:
        running = self.start_worker(**settings)
        try:
            yield running
        finally:
            running.end()

    # --- Tasks ---

    def call(
        self,
        fn: Callable[..., Any] | functions.Code,
        *args: Any,
        task_id: str | None = None,
        queue: str = "default",
        flags: int = 0,
        retry: int = 0,
        timeout: int = FAR_TIMEOUT,
        deadline: int = 0,
        retention: int = 86_400,
    ) -> tuple[functions.Code, TaskMessage]:
        """A signed call that is not yet in the store."""
        code = fn if isinstance(fn, functions.Code) else functions.dump_function(fn)
        task_id = task_id or uuid.uuid4().hex
        if code.is_coroutine:
            flags |= payloads.COROUTINE
        payload = payloads.pack_call(code.fingerprint, functions.dump_arguments(args, {}), flags)
        message = TaskMessage(
            type=code.name,
            payload=self.keys.sign_call(payload, task_id, queue, code.name),
            id=task_id,
            queue=queue,
            retry=retry,
            timeout=timeout,
            deadline=deadline,
            retention=retention,
        )
        return code, message

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> str:
        code, message = self.call(fn, *args, **options)
        self.put(message, code)
        return message.id

    def submit_many(
        self, fn: Callable[..., Any], arguments: Iterable[Sequence[Any]], **options: Any
    ) -> list[str]:
        code = functions.dump_function(fn)
        messages = [self.call(code, *args, **options)[1] for args in arguments]
        self.put_many(messages, code)
        return [message.id for message in messages]

    def put(self, message: TaskMessage, code: functions.Code | None = None) -> None:
        self.put_many([message], code)

    def put_many(self, messages: Sequence[TaskMessage], code: functions.Code | None = None) -> None:
        tasks = [NewTask(m.id, m.SerializeToString()) for m in messages]
        conflicts = self.broker.enqueue(
            EnqueueRequest(
                messages[0].queue,
                tasks,
                fingerprint=code.fingerprint if code else None,
                blob=code.blob if code else None,
            )
        ).conflicts
        assert not conflicts

    # --- What became of them ---

    def find(self, task_id: str, queue: str = "default") -> TaskRecord | None:
        return self.broker.find(task_id, queue)

    def state(self, task_id: str, queue: str = "default") -> str | None:
        return self.broker.states(queue, [task_id])[0]

    def wait_for(
        self, task_id: str, *states: str, seconds: float = 40.0, queue: str = "default"
    ) -> TaskRecord:
        """Return the task in one of these states, by default an ended one."""
        wanted = states or ENDED

        def there() -> bool:
            return self.state(task_id, queue) in wanted

        wait_until(there, seconds, f"for {wanted}; it is {self.state(task_id, queue)}")
        record = self.find(task_id, queue)
        assert record is not None
        return record

    def wait_for_all(
        self, ids: Sequence[str], seconds: float = 60.0, queue: str = "default"
    ) -> None:
        def ended() -> bool:
            return ENDED.issuperset(self.broker.states(queue, ids))  # type: ignore[arg-type]

        wait_until(ended, seconds, f"for {len(ids)} tasks")

    def value(self, task_id: str, seconds: float = 40.0, queue: str = "default") -> Any:
        """Return the value of the task, once it has ended."""
        record = self.wait_for(task_id, seconds=seconds, queue=queue)
        assert record.state == "completed", record.message.error_msg
        return self.value_of(record)

    def value_of(self, record: TaskRecord) -> Any:
        assert record.result is not None
        result = self.keys.verify_result(record.result, record.message.id)
        assert result.kind == payloads.VALUE
        return functions.load_value(result.body)

    def error(self, task_id: str, seconds: float = 40.0, queue: str = "default") -> BaseException:
        """Return the exception of the task, once it has failed for good."""
        record = self.wait_for(task_id, seconds=seconds, queue=queue)
        assert record.state == "archived", "it did not fail"
        return self.error_of(record)

    def error_of(self, record: TaskRecord) -> BaseException:
        assert record.error is not None
        result = self.keys.verify_result(record.error, record.message.id)
        assert result.kind == payloads.EXCEPTION
        return exceptions.load_exception(result.body, record.message.id)

    def attempts(self, task_id: str | None = None, queue: str = "default") -> list[dict[str, str]]:
        rows = self.broker.attempts(queue)
        return [row for row in rows if task_id is None or row["task_id"] == task_id]

    def outcomes(self, task_id: str, queue: str = "default") -> list[str]:
        return [row["outcome"] for row in self.attempts(task_id, queue)]

    def events(self, name: str, task_id: str, queue: str = "default") -> int:
        """Return the number of events of this name for the task."""
        entries = self.redis.xrange(f"nbqueue:{{{queue}}}:events")
        return sum(
            words[b"event"] == name.encode() and task_id in ids_of(words) for _, words in entries
        )

    def length(self, name: str, queue: str = "default") -> int:
        """Return the number of ids in a list or a set of the queue."""
        key = f"asynq:{{{queue}}}:{name}"
        if name in ("pending", "active"):
            return int(self.redis.llen(key))
        return int(self.redis.zcard(key))

    def pending(self, queue: str = "default") -> list[str]:
        """Return the ids of pending tasks, oldest first."""
        ids = self.redis.lrange(f"asynq:{{{queue}}}:pending", 0, -1)
        return [each.decode() for each in reversed(ids)]

    def marks(self, name: str) -> list[str]:
        """Return the words that tasks wrote to a file with `mark`."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def mark_file(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="session")
def redis_program() -> Path:
    try:
        return server_programs.choose_program().path
    except NoEmbeddedServer as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def lab(redis_program: Path, tmp_path: Path) -> Iterator[Lab]:
    """A store for one test."""
    made = Lab(redis_program, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared_lab(redis_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A store for the tests of a module, which use queues or workers of their own."""
    made = Lab(redis_program, tmp_path_factory.mktemp("lab"))
    try:
        yield made
    finally:
        made.close()
