"""The embedded store: a private Redis in a folder, started on demand.

Limitations: it serves one user on one machine, because it listens on a unix socket only. If the
socket is deleted while the server runs, the server must be ended by hand (the error names the
process). If the folder is deleted, its server runs on until it is stopped or killed.

Two processes never start two servers on one folder: the starter locks the folder's ``lock`` file,
and the *server inherits the open file*, so the lock is held exactly as long as the server (or a
child that still writes its files) lives. No pid is ever trusted: pids are reused, and may belong to
another machine that shares the folder. Nothing needs cleaning up after ``kill -9`` or a power cut:
the kernel releases the lock, and the next caller starts a new server.

A server outlives the process that started it: it is a child of init, in its own session.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from nbqueue.errors import StoreUnreachable, StoreUnsuitable
from nbqueue.store import embedded_folder
from nbqueue.store.server_facts import info_of
from nbqueue.store.server_programs import (
    PROGRAM_VARIABLE,
    ServerProgram,
    choose_program,
    no_embedded_store_here,
)
from nbqueue.transport.connect import RawConnection, open_path
from nbqueue.transport.resp import ReplyError

# : How long to wait for a server that does not answer, in seconds.
START_SECONDS = 20.0
# : How long to wait for a server that is still loading its data, in seconds.
LOADING_SECONDS = 600.0

_LOG_BYTES = 1 << 20
_ANSWER_SECONDS = 1.0
_WAS_UP = "eady to accept connections"
_TOO_NEW = re.compile(r"RDB (?:format )?version", re.IGNORECASE)


@dataclass(frozen=True)
class EmbeddedStatus:
    """The result of :func:`status`.

    Without a running server, ``product``, ``version`` and ``binary`` are those of the last one, or
    None if there never was one.
    """

    running: bool
    pid: int | None
    product: str | None
    version: str | None
    socket: Path
    directory: Path
    data_bytes: int
    binary: Path | None


class _Ended(StoreUnreachable):
    """The server ran, but was stopped or killed before it was used."""


class _State(Enum):
    READY = auto()
    LOADING = auto()
    SILENT = auto()  # it accepts connections, but does not answer in time
    ABSENT = auto()


def ensure_server(directory: str | os.PathLike[str], *, timeout: float = START_SECONDS) -> Path:
    """Start the server of ``directory`` if needed, and return its socket's path.

    The folder is created with mode 0700 if it is missing. A running server costs one connection and
    no lock. Concurrent callers, in any processes, get one and the same server. ``timeout``
    (seconds) applies to a server that does not answer at all; a server that is loading its data has
    up to ten minutes.

    Raises NoEmbeddedServer if there is no program to start; StoreUnsuitable if other users can
    access the folder, or its data were written by a newer Redis than the program; StoreUnreachable
    if the server does not start (with the end of its log) or does not answer.
    """
    if sys.platform == "win32":
        raise no_embedded_store_here("Windows")
    home = embedded_folder.real(directory)
    embedded_folder.claim(home)
    path = embedded_folder.socket_path(home, make=True)
    patience = _Patience(timeout)
    chances = 3
    while True:
        state = _probe(path)
        if state is _State.READY:
            return path
        if state is _State.ABSENT:
            lock = embedded_folder.try_lock(home)
            if lock is not None:
                try:
                    _start(home, path, lock, patience)
                    return path
                except _Ended:
                    chances -= 1
                    if not chances:
                        raise
                finally:
                    # Only this process's copy: the server's copy keeps the lock.
                    os.close(lock)
        if not patience.wait(state):
            raise _no_answer(home, path, state)


def stop_server(directory: str | os.PathLike[str], *, timeout: float = 30.0) -> bool:
    """Stop the server of ``directory`` and wait until its process has ended.

    Returns whether there was one. The data stay; the next :func:`ensure_server` starts it again.
    Raises StoreUnreachable if it has not stopped after ``timeout`` seconds.
    """
    home = embedded_folder.real(directory)
    if sys.platform == "win32" or not home.is_dir():
        return False
    path = embedded_folder.socket_path(home)
    patience = _Patience(timeout)
    stopped: str | None = None
    while True:
        state = _probe(path)
        if state is _State.ABSENT:
            lock = embedded_folder.try_lock(home)
            if lock is not None:
                path.unlink(missing_ok=True)
                os.close(lock)
                return stopped is not None
        elif state is not _State.SILENT:
            pid = _info(path).get("process_id")
            if stopped is not None and pid not in (stopped, None):
                # another process has started a new server meanwhile, which is left running
                return True
            stopped = pid or stopped or "unknown"
            try:
                _ask(path, "SHUTDOWN", seconds=timeout)
            except OSError:
                pass  # no answer: it is stopping; after a refusal, try again
        if not patience.wait(_State.SILENT):
            raise _no_answer(home, path, state)


def status(directory: str | os.PathLike[str]) -> EmbeddedStatus:
    """Return the state of the embedded store in ``directory``. Changes nothing."""
    home = embedded_folder.real(directory)
    path = embedded_folder.socket_path(home)
    state = _State.ABSENT if sys.platform == "win32" else _probe(path)
    record = embedded_folder.read_record(home)
    info = _info(path) if state in (_State.READY, _State.LOADING) else {}
    running = state is not _State.ABSENT
    valkey = info.get("valkey_version")
    binary = info.get("executable") or record.get("program")
    return EmbeddedStatus(
        running=running,
        pid=int(info.get("process_id") or record.get("pid") or 0) or None if running else None,
        product=("valkey" if valkey else "redis") if info else record.get("product"),
        version=valkey or info.get("redis_version") or record.get("version"),
        socket=path,
        directory=home,
        data_bytes=embedded_folder.data_bytes(home),
        binary=Path(binary) if binary else None,
    )


class _Patience:
    """Timing of repeated checks, frequent at first, because a start is quick."""

    def __init__(self, seconds: float) -> None:
        now = time.monotonic()
        self._limit = now + seconds
        self._loading_limit = now + max(seconds, LOADING_SECONDS)
        self._step = 0.001

    def wait(self, state: _State) -> bool:
        """Wait a little.

        Returns False if the time for this state is over.
        """
        limit = self._loading_limit if state is _State.LOADING else self._limit
        if time.monotonic() >= limit:
            return False
        threading.Event().wait(self._step)
        self._step = min(self._step * 1.5, 0.05)
        return True


# --- Starting a server: only under the lock ------------------------------------------------------


def _start(home: Path, path: Path, lock: int, patience: _Patience) -> None:
    record = embedded_folder.read_record(home)
    program = choose_program(record.get("product"))
    _require_readable(home, program, record)
    log = home / embedded_folder.LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.old"))
    # With the append-only file enabled, a server that has only a snapshot would ignore it and start
    # empty. So it loads the snapshot first, and enables the append-only file after that.
    adopt = embedded_folder.has_only_snapshot(home)
    read_end, write_end = os.pipe()
    try:
        with log.open("ab") as output:
            begin = output.seek(0, os.SEEK_END)
            try:
                _launch(
                    _command(home, path, program, append_only=not adopt),
                    output.fileno(),
                    home,
                    keep_open=(lock, write_end),
                )
            finally:
                os.close(write_end)
        os.set_blocking(read_end, False)
        while (state := _probe(path)) is not _State.READY:
            if _has_ended(read_end):
                raise _failed_to_start(home, program, record, _tail(log, begin))
            if not patience.wait(state):
                raise _no_answer(home, path, state)
    finally:
        os.close(read_end)
    if adopt:
        _ask(path, "CONFIG", "SET", "appendonly", "yes")
    try:
        embedded_folder.write_record(home, path, program, _info(path).get("process_id"))
    except OSError:
        pass  # a full disk, for example: the server runs, and the record is only used in messages


def _require_readable(home: Path, program: ServerProgram, record: dict[str, object]) -> None:
    """Refuse a program that cannot read the existing data.

    It would start empty.
    """
    if program.keeps_append_only_directory or not embedded_folder.has_append_only_directory(home):
        return
    raise StoreUnsuitable(
        f"the data in {home} were written by {_writer(record, 'Redis 7.0 or newer')}, and "
        f"{program} would not read them but start empty. {_newer_program(home)}"
    )


def _command(home: Path, path: Path, program: ServerProgram, *, append_only: bool) -> list[str]:
    settings = {
        "port": "0",  # no TCP: the folder's mode keeps other users out
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(home),
        "daemonize": "no",
        "logfile": "",  # to its output, which is the log file
        "appendonly": "yes" if append_only else "no",
        "appendfsync": "always" if embedded_folder.is_fsync_always(home) else "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        # Stores small tasks in one piece (all versions know this name). By default a message of
        # more than 64 bytes turns the hash into a table, which takes half as much memory again.
        "hash-max-ziplist-value": "1024",
    }
    command = [str(program.path)]
    for name, value in settings.items():
        command += [f"--{name}", value]
    return command


def _launch(command: list[str], output: int, home: Path, keep_open: tuple[int, ...]) -> None:
    """Run ``command`` in the background, as a child of init.

    The intermediate shell ends at once, so that the server becomes no zombie and Python neither
    waits for it nor warns about it. It inherits no descriptors but its log and ``keep_open``, and
    its own session shields it from the signals of the terminal and the kernel.
    """
    shell = subprocess.Popen(
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=home,
        pass_fds=keep_open,
        start_new_session=True,
        umask=0o077,
    )
    shell.wait()


def _has_ended(read_end: int) -> bool:
    # The server holds the other end of this pipe and never writes to it.
    try:
        return os.read(read_end, 1) == b""
    except BlockingIOError:
        return False


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as lines:
        lines.seek(begin)
        text = lines.read().decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-12:])


# --- Error messages -----------------------------------------------------------------------------


def _failed_to_start(
    home: Path, program: ServerProgram, record: dict[str, object], tail: str
) -> StoreUnsuitable | StoreUnreachable:
    if _TOO_NEW.search(tail):
        return StoreUnsuitable(
            f"the data in {home} were written by {_writer(record, 'a newer server')}, and "
            f"{program} cannot read them. {_newer_program(home)}. Its log ends:\n{tail}"
        )
    # Both have the same message: it is only shown after several tries.
    kind = _Ended if _WAS_UP in tail else StoreUnreachable
    return kind(
        f"the embedded server {program} did not start on {home}. Its log, "
        f"{home / embedded_folder.LOG}, ends:\n{tail or '(it wrote nothing)'}"
    )


def _writer(record: dict[str, object], unknown: str) -> str:
    if not record.get("version"):
        return unknown
    return f"{unknown} (the last that ran here: {record.get('product')} {record['version']})"


def _newer_program(home: Path) -> str:
    return (
        "Install the newer server again, or name it in the environment variable "
        f"{PROGRAM_VARIABLE}; or, if the tasks in there are not needed, move {home} away"
    )


def _no_answer(home: Path, path: Path, state: _State) -> StoreUnreachable:
    record = embedded_folder.read_record(home)
    who = "its process"
    if record.get("pid"):
        who = f"its process, last known as {record['pid']} on host {record.get('host')},"
    problem = {
        _State.LOADING: "is still reading its data; try again later",
        _State.SILENT: "takes connections but does not answer; "
        f"see {home / embedded_folder.LOG}, or end it",
        _State.ABSENT: f"has no socket at {path}, although {who} holds the lock. If it runs on "
        "another machine, use a redis:// URL there; if not, end it, and it will be started again",
        _State.READY: "answers, but does not stop",
    }[state]
    return StoreUnreachable(f"the embedded server of {home} {problem}")


# --- Talking to the server ----------------------------------------------------------------------


def _probe(path: Path) -> _State:
    try:
        reply = _ask(path, "PING")
    except (FileNotFoundError, ConnectionRefusedError):
        return _State.ABSENT
    except ConnectionError:
        return _State.ABSENT  # it stopped during the check
    except OSError:
        return _State.SILENT  # timed out, or its queue of connections is full
    if isinstance(reply, ReplyError) and reply.code == "LOADING":
        return _State.LOADING
    # Any other answer, even "busy" or "no password", shows that it runs.
    return _State.READY


def _info(path: Path) -> dict[str, str]:
    """Return ``INFO server``, or an empty dict if it is not available."""
    try:
        return info_of(_ask(path, "INFO", "server"))
    except OSError:
        return {}


def _ask(path: Path, *words: str, seconds: float = _ANSWER_SECONDS) -> Any:
    """Return the reply to a command over a new connection.

    A refusal is a value.

    Raises OSError; a connection that is closed without a reply raises ConnectionResetError.
    """
    with RawConnection(open_path(os.fspath(path), seconds)) as connection:
        return connection.exchange([words])[0]
