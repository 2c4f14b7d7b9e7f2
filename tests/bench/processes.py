"""Starting and ending the processes of a peer. Only what was started here is ended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environments
import psutil
from contenders import Contender

HERE = Path(__file__).resolve().parent / "peers"
_MARK = struct.Struct("<dq")


def of_session(leader: int) -> list[int]:
    """Return all living processes of a session that was started here."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.info["status"] != "zombie":
                found.append(process.pid)
    return found


def _kill(leader: int) -> None:
    for pid in of_session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Place:
    """The store and the files of a peer."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.marks = folder / "marks"
        self.marks.touch()

    def environment(self, contender: Contender) -> dict[str, str]:
        binaries = environments.python_of(contender.place).parent
        return {
            **os.environ,
            "BENCH_URL": self.url,
            "BENCH_MARKS": str(self.marks),
            "BENCH_NODE": str(environments.NODE),
            "C_FORCE_ROOT": "1",  # Celery refuses pickle as root
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def _start(
        self, contender: Contender, command: str, output: Any, *more: str
    ) -> subprocess.Popen[bytes]:
        python = environments.python_of(contender.place)
        words = {"bin": python.parent, "python": python, "url": self.url, "here": HERE}
        return subprocess.Popen(
            [*(word.format(**words) for word in shlex.split(command)), *more],
            cwd=self.folder,
            env=self.environment(contender),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=self._log(contender),
            start_new_session=True,
        )

    def times(self) -> list[float]:
        """Return the times of the marks, made by tasks that do nothing else."""
        data = self.marks.read_bytes()
        whole = len(data) // _MARK.size * _MARK.size
        return [at for at, _ in _MARK.iter_unpack(data[:whole])]

    def _log(self, contender: Contender) -> Any:
        return open(self.folder / f"{contender.place}.log", "ab")

    @contextmanager
    def workers(self, contender: Contender) -> Iterator[list[int]]:
        """Run the workers of a peer; yield the process ids of those that were started."""
        log = self._log(contender)
        started = [self._start(contender, command, log) for command in contender.workers]
        try:
            yield [process.pid for process in started]
        finally:
            for process in started:
                process.terminate()
            limit = time.monotonic() + 3
            while time.monotonic() < limit and any(each.poll() is None for each in started):
                time.sleep(0.02)
            for process in started:
                _kill(process.pid)
                process.wait()

    def ask(self, contender: Contender, what: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Run the client of a peer and return its answer.

        Raises `RuntimeError` if it fails or takes too long.
        """
        program = "{python} {here}/client.py " + contender.code
        if contender.place == "node":
            program = f"node {{here}}/{contender.code}.mjs"
        answers = self.folder / "answers"
        with open(answers, "wb") as output:
            process = self._start(contender, f"{program} {what}", output, json.dumps(wanted))
        problem = "its client failed"
        try:
            process.wait(180)
        except subprocess.TimeoutExpired:
            problem = "its client took more than 180 s"
        finally:
            _kill(process.pid)  # pools and clusters that the client left
            process.wait()
        for line in answers.read_text(errors="replace").splitlines():
            if line.startswith("RESULT "):
                return dict(json.loads(line[7:]))
        said = (self.folder / f"{contender.place}.log").read_text(errors="replace").strip()
        raise RuntimeError(f"{problem}: {(said.splitlines() or ['silently'])[-1]}"[:160])
