"""Detect processes of a task, which must not make a signing key.

Workers mark the environment of executors, which all processes of a task inherit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from nbqueue.errors import NoSigningKey
from nbqueue.runtime.notify_socket import without_notify_socket

VARIABLE = "NBQUEUE_IN_TASK"
KEY_VARIABLE = "NBQUEUE_KEY"

_WITH_KEY_FILE = "1"
_WITHOUT_KEY = "keyless"
"""The worker's key is in its environment, which its tasks do not see."""

# Read at import: a task may change its environment later.
_mark = os.environ.get(VARIABLE, "")


def executor_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an executor, derived from that of its worker."""
    kept = without_notify_socket(environ)
    kept.pop(KEY_VARIABLE, None)
    kept[VARIABLE] = _WITHOUT_KEY if environ.get(KEY_VARIABLE, "").strip() else _WITH_KEY_FILE
    return kept


def is_in_task() -> bool:
    """Return whether the environment of this process is that of a task."""
    return bool(_current_mark())


def refuse_if_keyless() -> None:
    """Raise `NoSigningKey` in a task whose worker has its key in the environment."""
    if _current_mark() == _WITHOUT_KEY:
        raise NoSigningKey(
            f"this code runs in a task, and its worker keeps {KEY_VARIABLE} to itself: what would "
            "be submitted here, no worker would run. Return what is to be done, and submit it "
            "where the key is; or pass connect(key=…)"
        )


def refuse_to_make(path: object) -> None:
    """Raise `NoSigningKey` in a task, which must not create a missing key file."""
    if is_in_task() or _has_marked_ancestor():
        raise NoSigningKey(
            f"this code runs in a task, and there is no signing key {path}: only processes that "
            "you start make one. Connect to that store once outside of a task, or pass "
            "connect(key=…)"
        )


def _current_mark() -> str:
    return os.environ.get(VARIABLE, "") or _mark


def _has_marked_ancestor() -> bool:
    """Return whether a task started this process with a changed environment."""
    import psutil

    try:
        ancestors = psutil.Process().parents()
    except psutil.Error:
        return False
    for process in ancestors:
        try:
            if process.environ().get(VARIABLE):
                return True
        except (psutil.Error, OSError):
            continue  # of another user, or already ended
    return False
