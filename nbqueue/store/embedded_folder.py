"""The folder of an embedded store: permissions, lock, socket path, record.

Nothing here connects to a server.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

from nbqueue.errors import StoreUnsuitable
from nbqueue.store.server_programs import ServerProgram

LOG = "redis.log"
APPEND_ONLY_FILE = "appendonly.aof"
APPEND_ONLY_DIRECTORY = "appendonlydir"
SNAPSHOT = "dump.rdb"

_LOCK = "lock"
_FSYNC = "fsync-always"
_RECORD = "server.json"
_SOCKET = "redis.sock"

# Linux has room for 108 bytes, macOS for 104, both with a NUL at the end; Redis 6.2 silently
# truncates one more. A little below all of them is safe everywhere.
_LONGEST_SOCKET_PATH = 100
_SHORT_BASE = Path("/tmp")


def real(directory: str | os.PathLike[str]) -> Path:
    """Return the canonical path of the folder."""
    # Two names of one folder must lead to one socket.
    return Path(os.path.realpath(Path(directory).expanduser()))


def claim(home: Path) -> None:
    """Ensure that ``home`` is a folder that only this user can enter."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = home.stat()
    except OSError as error:
        raise StoreUnsuitable(
            f"the folder of the embedded store, {home}, cannot be made: {error.strerror}. "
            "Give one that you can write to: embedded:///path, or set NBQUEUE_URL"
        ) from error
    _require_own(home, found)
    if not stat.S_IMODE(found.st_mode) & 0o077:
        return
    marks = (_LOCK, _RECORD, APPEND_ONLY_FILE, APPEND_ONLY_DIRECTORY)
    if any(home.iterdir()) and not any((home / mark).exists() for mark in marks):
        # It may be someone's home or project: do not change its permissions.
        raise StoreUnsuitable(
            f"{home} is open to other users and holds files that are not the embedded store's. "
            f"Give the store a folder of its own, such as {home / 'nbqueue-store'}"
        )
    _make_private(home)


def _require_own(folder: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise StoreUnsuitable(
            f"{folder} belongs to another user (uid {found.st_uid}, not {os.geteuid()}), who "
            "could run a server there. Use another folder: "
            "embedded:///path, or set NBQUEUE_URL"
        )


def _make_private(folder: Path) -> None:
    folder.chmod(0o700)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        raise StoreUnsuitable(
            f"{folder} is open to other users, and its file system cannot change that. "
            "Use a folder elsewhere: embedded:///path, or set NBQUEUE_URL"
        )


def socket_path(home: Path, *, make: bool = False) -> Path:
    """Return the path of the socket: in ``home``, or in a private folder under /tmp.

    The latter if the path is too long. Every process must get the same answer, so it depends on
    ``home`` alone and not on TMPDIR or XDG_RUNTIME_DIR: cron, ssh and batch systems set them
    differently, and they may vanish with the session while the server lives on.
    """
    path = home / _SOCKET
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH or sys.platform == "win32":
        return path
    folder = _short_folder()
    try:
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        # Not stat: a link planted by another user would lead to that user's folder.
        found = folder.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreUnsuitable(
            f"the path of the socket {path} is too long, and {folder} cannot be made for it: "
            f"{error.strerror}. Use a shorter path: embedded:///path, or set NBQUEUE_URL"
        ) from error
    else:
        _require_own(folder, found)
        if not stat.S_ISDIR(found.st_mode):
            raise StoreUnsuitable(f"{folder}, where the socket of {home} belongs, is no folder")
        if stat.S_IMODE(found.st_mode) & 0o077:
            _make_private(folder)
    return folder / (hashlib.sha256(os.fsencode(home)).hexdigest()[:24] + ".sock")


def is_socket(path: str) -> bool:
    """Return whether a socket of this path may be that of an embedded server of this user."""
    return os.path.basename(path) == _SOCKET or Path(path).parent == _short_folder()


def _short_folder() -> Path:
    base = _SHORT_BASE if _SHORT_BASE.is_dir() else Path(tempfile.gettempdir())
    return base / f"nbqueue-{os.geteuid()}"


def try_lock(home: Path) -> int | None:
    """Lock the folder and return the open file; None if already locked."""
    import fcntl

    # The file is never deleted, because two processes could then lock two files.
    handle = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # flock, not lockf: it belongs to the open file, which a child process inherits.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise StoreUnsuitable(
            f"{home} is on a file system without file locks ({error.strerror}), so two servers "
            "could write the same data. Use a folder elsewhere: embedded:///path, or NBQUEUE_URL"
        ) from error
    return handle


def is_fsync_always(home: Path) -> bool:
    """Return whether each write must be on disk before it is acknowledged."""
    return (home / _FSYNC).exists()


def note_fsync_always(home: Path) -> None:
    """Record that each write must be on disk before it is acknowledged.

    It also applies after restarts.
    """
    (home / _FSYNC).write_text(
        "The server of this folder syncs each write to disk (appendfsync always), because a client "
        "connected with durability='fsync'.\nTo end that: nbqueue store stop, then delete this "
        "file.\n",
        "utf-8",
    )


def read_record(home: Path) -> dict[str, Any]:
    """Return the record of the last start.

    Empty if it cannot be read.
    """
    try:
        record = json.loads((home / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(home: Path, path: Path, program: ServerProgram, pid: str | None) -> None:
    """Record the program that uses the data, for messages and later starts."""
    record = {
        "directory": str(home),
        "socket": str(path),
        "product": program.product,
        "version": ".".join(map(str, program.version)),
        "program": str(program.path),
        "pid": int(pid or 0),
        "host": socket.gethostname(),
    }
    draft = home / f"{_RECORD}.new"
    draft.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    draft.replace(home / _RECORD)


def data_bytes(home: Path) -> int:
    """Return the size of the data of ``home`` on disk, in bytes."""
    files = [home / APPEND_ONLY_FILE, home / SNAPSHOT]
    try:
        files.extend((home / APPEND_ONLY_DIRECTORY).iterdir())
    except OSError:
        pass
    return sum(_size(file) for file in files)


def has_append_only_directory(home: Path) -> bool:
    """Return whether Redis 7.0 or later wrote an append-only file here."""
    return any((home / APPEND_ONLY_DIRECTORY).glob("*"))


def has_only_snapshot(home: Path) -> bool:
    """Return whether the only data are a snapshot.

    For example one that was copied from another Redis.
    """
    return (
        (home / SNAPSHOT).exists()
        and not (home / APPEND_ONLY_FILE).exists()
        and not has_append_only_directory(home)
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # a rewrite has just replaced the file
