"""Workers on this machine that a notebook started. They outlive its kernel, and are found again.

For each store, a file in the user's state folder lists the workers; their logs are next to it. A
process counts as one of them only if it began at the time in the file, as process ids are reused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from nbqueue.errors import NbqueueError
from nbqueue.worker.worker import Worker

_LOG_TAIL = 4000
_STOP_SECONDS = 20.0
_children: list[Worker] = []
"""The workers that this process started.

They are its children, so it reaps them when they end.
"""


class WorkerStillRuns(NbqueueError):
    """A worker did not end when asked to."""


@dataclass(frozen=True)
class LocalWorker:
    """A worker on this machine. ``began`` is the start of its process, in Unix seconds."""

    pid: int
    began: float
    queues: dict[str, int]
    concurrency: int
    executor: str
    log: str
    folder: str

    @property
    def is_running(self) -> bool:
        """True if its process runs."""
        process = self.process()
        return process is not None and process.status() != psutil.STATUS_ZOMBIE

    def process(self) -> psutil.Process | None:
        """Return its process, or None if that has ended."""
        try:
            process = psutil.Process(self.pid)
            return process if abs(process.create_time() - self.began) < 1.0 else None
        except psutil.NoSuchProcess:
            return None


class LocalWorkers:
    """The workers of one store that were started on this machine."""

    def __init__(self, url: str, place: str) -> None:
        """``url`` is the URL that workers connect to, ``place`` that URL without passwords."""
        self._url = url
        self.place = place
        base = Path(platformdirs.user_state_dir("nbqueue", appauthor=False)) / "workers"
        self._file = base / (hashlib.sha256(place.encode()).hexdigest()[:16] + ".json")

    def running(self) -> list[LocalWorker]:
        """Return the workers that run now, oldest first."""
        with self._locked() as workers:
            return list(workers)

    def start(self, queues: Mapping[str, int], **options: Any) -> LocalWorker:
        """Start a worker, and return when it is ready for tasks; ``options`` are of `Worker`.

        Raises `WorkerDidNotStart`, with the end of its output, if it ends instead.
        """
        with self._locked() as workers:
            number = 1 + len(workers)
            log = self._file.with_name(f"{self._file.stem}-{os.getpid()}-{number}.log")
            log.write_bytes(b"")
            worker = Worker(self._url, queues=queues, log=log, **options)
            try:
                worker.start()
            except NbqueueError as error:
                printed = log.read_text("utf-8", "replace")[-_LOG_TAIL:]
                raise type(error)(f"{error}\n{printed}".rstrip()) from None
            assert worker.pid is not None
            _children.append(worker)
            found = LocalWorker(
                pid=worker.pid,
                began=psutil.Process(worker.pid).create_time(),
                queues=dict(worker.settings.queues),
                concurrency=worker.settings.concurrency,
                executor=worker.settings.executor,
                log=str(log),
                folder=os.getcwd(),
            )
            workers.append(found)
            return found

    def stop(self) -> list[LocalWorker]:
        """End all workers; their running tasks may end within the shutdown time-out.

        Returns the workers that were running. Raises `WorkerStillRuns` if one does not end.
        """
        with self._locked() as workers:
            processes = [process for each in workers if (process := each.process()) is not None]
            for process in processes:
                process.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs(processes, timeout=_STOP_SECONDS)
            if alive:
                pids = ", ".join(str(process.pid) for process in alive)
                raise WorkerStillRuns(f"these workers were asked to end and still run: {pids}")
            ended = list(workers)
            for worker in ended:
                Path(worker.log).unlink(missing_ok=True)
            workers.clear()
            _children[:] = [child for child in _children if child.is_running]
            return ended

    @contextmanager
    def _locked(self) -> Iterator[list[LocalWorker]]:
        """Yield the running workers under a lock between kernels; changes to the list are saved."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            noted = self._read()
            workers = [worker for worker in noted if worker.is_running]
            try:
                yield workers
            finally:
                self._file.write_text(json.dumps([asdict(worker) for worker in workers]))

    def _read(self) -> list[LocalWorker]:
        try:
            return [LocalWorker(**each) for each in json.loads(self._file.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError):
            return []  # cut off, or of another version: those workers go on unlisted


def local_workers(client: Any) -> LocalWorkers:
    """Return the workers of a client's store that were started on this machine."""
    store = client._session.store
    return LocalWorkers(store.url.text, store.url.redacted)
