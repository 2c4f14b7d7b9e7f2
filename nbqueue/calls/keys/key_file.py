"""Find the signing keys in ``NBQUEUE_KEY`` or in a key file."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

from nbqueue.calls.keys import task_mark
from nbqueue.errors import UsageError

KEY_SIZE = 32
VARIABLE = task_mark.KEY_VARIABLE
_MIN_TEXT = 16
_FORM = f"{2 * KEY_SIZE} hexadecimal digits"


def parse_variable(text: str) -> list[bytes]:
    """Parse ``NBQUEUE_KEY``: one key, or several separated by commas.

    A key is 64 hexadecimal digits, or any text of at least 16 characters, whose SHA-256 is used.
    Raises `UsageError`, which does not repeat the text.
    """
    keys: list[bytes] = []
    for index, part in enumerate(text.split(","), start=1):
        part = part.strip()
        if not part:
            continue
        key = _from_hex(part)
        if key is None:
            if len(part) < _MIN_TEXT:
                raise UsageError(
                    f"{VARIABLE}: key {index} has {len(part)} characters: a key is {_FORM}, or "
                    f"any text of at least {_MIN_TEXT} characters"
                )
            key = hashlib.sha256(part.encode("utf-8", "surrogateescape")).digest()
        keys.append(key)
    if not keys:
        raise UsageError(f"{VARIABLE} holds no key: set it to {_FORM}, or unset it")
    return keys


def load_or_make(path: Path) -> list[bytes]:
    """Return the keys in the file ``path``; create it if it is missing.

    A new file has one new key. If several processes find no file at the same time, one creates it
    and all read the same key. Raises `UsageError` if other users can access the file, or it is
    malformed, or cannot be read or created; `NoSigningKey` if a task would have to create it.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    task_mark.refuse_to_make(path)
    try:
        _make(path)
    except OSError as error:
        raise UsageError(
            f"cannot make the signing key {path}: {_reason(error)}; make its directory "
            f"writable, or set {VARIABLE}"
        ) from error
    return _read(path)


def _read(path: Path) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(100_000)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read the signing key {path}: {_reason(error)}") from error
    if os.name != "nt" and mode & 0o077:
        raise UsageError(
            f"other users can access the signing key {path} (mode {mode:04o}), and its holders "
            f"can run code on your workers: chmod 600 {path}"
        )
    return _parse(raw, path)


def _parse(raw: bytes, path: Path) -> list[bytes]:
    keys: list[bytes] = []
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        key = _from_hex(text)
        if key is None:
            raise UsageError(
                f"line {number} of the signing key {path} is no key: a key is {_FORM}, one per "
                f"line, and the first signs"
            )
        keys.append(key)
    if not keys:
        raise UsageError(f"the signing key {path} holds no key: delete the file to get a new one")
    return keys


def _make(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    temporary = folder / f".key.{os.getpid()}.{secrets.token_hex(8)}"
    text = (
        f"# nbqueue signs calls and results with this. Keep it secret.\n{secrets.token_hex(32)}\n"
    )
    try:
        _write_new(temporary, text)
        try:
            # A link appears atomically, and never replaces the key of another process.
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            _make_without_links(path, text)
    finally:
        temporary.unlink(missing_ok=True)


def _make_without_links(path: Path, text: str) -> None:
    # Some file systems have no hard links. A reader may briefly see the empty file there.
    try:
        _write_new(path, text)
    except FileExistsError:
        pass


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _from_hex(text: str) -> bytes | None:
    if len(text) != 2 * KEY_SIZE:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
