"""`Outcome`: how a task ended, as a value or an exception.

The store has bytes. They are loaded when the value is first asked for, in the thread that asks, and
only after their signature was verified.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, Final, NamedTuple

from nbqueue.broker.reads.task_record import Ending, TaskRecord
from nbqueue.calls import payloads, raw_exceptions
from nbqueue.calls.cancellation import cancellation
from nbqueue.calls.exceptions import error_text, load_exception
from nbqueue.calls.functions import load_plain_value, load_value
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.results.json_results import json_value, plain_value
from nbqueue.errors import (
    NbqueueError,
    SignatureError,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskNotFound,
)
from nbqueue.runtime.forks import in_children
from nbqueue.wire import states

DELETED: Final = "deleted"
"""The state of a task that is no longer in the store."""

_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
_ONE_END = struct.Struct(">HcI")
REMOVED: Final = "removed"
"""The announced state of a task that was deleted before it was done."""

GONE: Final = "gone"
"""The state of a task that was found missing, for an unknown reason."""

_STATES = {b"c": states.COMPLETED, b"a": states.ARCHIVED, b"d": DELETED, b"x": REMOVED}

_settle = threading.Lock()


def _renew_lock() -> None:
    global _settle
    _settle = threading.Lock()


in_children(_renew_lock)


class RawOutcome(NamedTuple):
    """The end of a task as it was announced or read, not yet loaded.

    ``body`` is the result of a completed task and the exception of an archived one, ``text`` the
    error message of an archived one without an exception. ``error`` is an exception that needs no
    loading: that of a task that this client cancelled; or, with an unknown (empty) state, why
    waiting for a task ended before the task. ``value`` is the content of a ``body`` whose signature
    was verified.
    """

    state: str
    body: bytes = b""
    text: str = ""
    error: Exception | None = None
    value: memoryview | None = None


CANCELLED: Final = RawOutcome(states.ARCHIVED, error=TaskCancelled("the task was cancelled"))
"""The end of all tasks that this client cancelled. Each raises its own exception."""


class Outcome:
    """The end of one task: a value or an exception, loaded when first asked for.

    ``is_call``: the result must be signed. The result of a message is what its handler wrote: a
    JSON value, else the plain bytes, or None for nothing. ``is_json``: it is a call whose result is
    JSON, unsigned and never unpickled. A message that is missing counts as completed, as Asynq
    deletes completed messages, except where `gone` knows better.
    """

    __slots__ = (
        "_end", "_is_call", "_is_json", "_keyring", "_loaded", "_task_id", "is_cancelled",
        "is_gone", "state",
    )  # fmt: skip

    def __init__(
        self,
        task_id: str,
        end: RawOutcome,
        keyring: Keyring,
        is_call: bool = True,
        is_json: bool = False,
    ) -> None:
        self.state = end.state
        self.is_gone = end.state == GONE and is_call and not end.body
        """True if the task was found missing, and it is not known how it ended."""
        if end.state == GONE and is_call:
            self.state = DELETED
        elif end.state in (DELETED, GONE) and (end.body or not is_call):
            # It had no retention, so that its announcement is the only trace of it.
            self.state = states.COMPLETED
        elif end.state == REMOVED:
            self.state = DELETED
        self._task_id = task_id
        self._end: RawOutcome | None = end
        self._keyring = keyring
        self._is_call = is_call
        self._is_json = is_json
        self._loaded: tuple[Any, Exception | None] | None = None
        self.is_cancelled = isinstance(end.error, TaskCancelled)
        # Nothing is loaded before it is asked for, except to find out whether this is a
        # cancellation, because a Future then ends in another way.
        if end.error is None and end.state == states.ARCHIVED and b"TaskCancelled" in end.body:
            self.is_cancelled = self._is_as_cancelled_here(end.body) or isinstance(
                self.load()[1], TaskCancelled
            )

    def _is_as_cancelled_here(self, body: bytes) -> bool:
        """Return whether this is the signed cancellation of this version, without loading it."""
        _, known = cancellation()
        if len(body) != len(known) or body[27:] != known[27:]:
            return False
        try:
            self._verified(body, payloads.EXCEPTION)
        except SignatureError:
            return False
        return True

    @property
    def is_unfollowed(self) -> bool:
        """True if the wait for the task ended before the task, as when the client is closed."""
        return not self.state

    @property
    def is_failed(self) -> bool:
        """True unless the task completed. The signature of a result may still be wrong."""
        return self.state != states.COMPLETED

    @property
    def unread_bytes(self) -> int:
        """The size of the result in bytes; 0 once it was loaded."""
        end = self._end
        return len(end.body) if end is not None else 0

    @property
    def loaded(self) -> tuple[Any, Exception | None] | None:
        """The result of `load`; None if that was not called yet."""
        return self._loaded

    def plain_value(self, most: int) -> Any:
        """Return the value of a completed task if it is plain and takes at most ``most`` bytes.

        It is not loaded for that, see `load_plain_value`. Raises `ValueError` for other values and
        ends, `SignatureError` for a wrong signature.
        """
        end = self._end
        if self.state != states.COMPLETED or (end is not None and len(end.body) > most):
            raise ValueError("not a small value")
        is_pickle = self._is_call or (end is not None and payloads.is_result(end.body))
        if self._is_json or not is_pickle or end is None:
            value, error = self.load()
            if error is not None or (is_pickle and type(value) not in _PLAIN):
                raise ValueError("not a plain value")
            return value
        if end.error is not None or payloads.detached_result(end.body) is not None:
            raise ValueError("not a small value")
        return load_plain_value(self._verified(end.body, payloads.VALUE))

    def load(self) -> tuple[Any, Exception | None]:
        """Return the value and None, or None and the exception; the same objects each time."""
        loaded = self._loaded
        if loaded is not None:
            return loaded
        end = self._end
        if end is not None:
            try:
                loaded = self._load(end)
            except Exception as error:
                loaded = None, error
            with _settle:
                if self._loaded is None:
                    self._loaded, self._end = loaded, None
        assert self._loaded is not None
        return self._loaded

    def _load(self, end: RawOutcome) -> tuple[Any, Exception | None]:
        if end is CANCELLED:
            return None, TaskCancelled("the task was cancelled", self._task_id)
        if end.error is not None:
            return None, end.error
        if self.state == states.COMPLETED:
            if self._is_json:
                return json_value(end.body, self._task_id), None
            if not self._is_call and not payloads.is_result(end.body):
                return plain_value(end.body), None
            value = self._verified(end.body, payloads.VALUE) if end.value is None else end.value
            return load_value(value), None
        if self.state == states.ARCHIVED:
            if not end.body:
                return None, TaskFailed(
                    end.text or "the task was archived by hand, and did not run", self._task_id
                )
            body = self._verified(end.body, payloads.EXCEPTION)
            return None, self._raisable(load_exception(body, self._task_id))
        return None, TaskNotFound(
            end.text
            or f"task {self._task_id} is no longer in the store: it was deleted, or its retention "
            "was over before its result could be read",
            self._task_id,
        )

    def _verified(self, body: bytes, kind: int) -> memoryview:
        result = self._keyring.verify_result(body, self._task_id)
        if result.kind != kind:
            raise SignatureError(
                f"the result of task {self._task_id} lies where it does not belong"
            )
        return result.body

    def _raisable(self, exc: BaseException) -> Exception:
        if isinstance(exc, TaskError) and not exc.task_id:
            exc.task_id = self._task_id
        return exc if isinstance(exc, Exception) else self._as_exception(exc)

    def _as_exception(self, exc: BaseException) -> Exception:
        """Convert an exception that would end the program, such as that of sys.exit()."""
        failed: BaseException
        if isinstance(exc, raw_exceptions.group_types()):
            members = map(self._raisable, raw_exceptions.members_of(exc))
            failed = raw_exceptions.plain_group(str(exc.message), members)  # type: ignore[attr-defined,unused-ignore]
            raw_exceptions.set_attributes(failed, raw_exceptions.names_of(exc), {})
        else:
            failed = TaskFailed(error_text(exc), self._task_id, str(exc.__cause__ or ""))
        raw_exceptions.set_cause(failed, exc.__cause__)
        assert isinstance(failed, Exception)
        return failed


def read_announcement(data: bytes) -> tuple[list[tuple[str, RawOutcome]], list[str]]:
    """Return the ends in a message of ``announce.lua``, and the tasks to read from the store.

    The latter are those whose result was too large to announce, and those that were archived
    without an exception: the text of the error is then in the message of the task.
    """
    ends: list[tuple[str, RawOutcome]] = []
    unread: list[str] = []
    at, size = 0, _ONE_END.size
    while at < len(data):
        if len(data) - at < size:
            break  # not a message of nbqueue
        id_length, letter, length = _ONE_END.unpack_from(data, at)
        middle = at + size + id_length
        task_id = data[at + size : middle].decode("utf-8", "replace")
        at = middle + length
        state = _STATES.get(letter)
        if state is None or (state == states.ARCHIVED and not length):
            unread.append(task_id)
        else:
            # For each task: the constructor of a named tuple, written in Python, is slow.
            end = tuple.__new__(RawOutcome, (state, data[middle:at], "", None, None))
            ends.append((task_id, end))
    return ends, unread


def verified(end: RawOutcome, task_id: str, keyring: Keyring) -> RawOutcome | None:
    """Return an announced ``end`` if its result carries a valid signature, else None."""
    if end.state not in (states.COMPLETED, DELETED):
        return None  # errors of attempts are signed, too, and the task may be retried
    value = keyring.verify_value(end.body, task_id)
    return (
        None if value is None else tuple.__new__(RawOutcome, (end.state, end.body, "", None, value))
    )


def end_of(record: TaskRecord | None) -> RawOutcome:
    """Return the end of a task that has ended, from its record in the store."""
    if record is None:
        return RawOutcome(GONE)
    if record.state == states.COMPLETED:
        return RawOutcome(record.state, record.result or b"")
    return RawOutcome(states.ARCHIVED, record.error or b"", record.message.error_msg)


def end_as(ending: Ending | None) -> RawOutcome | None:
    """Return the end of a task from a partial record; None if it has not ended."""
    if ending is None:
        return RawOutcome(GONE)
    if ending.state == states.COMPLETED:
        return RawOutcome(ending.state, ending.result)
    if ending.state == states.ARCHIVED:
        return RawOutcome(ending.state, ending.error, ending.error_text)
    return None


def gone(task_id: str, *, is_kept: bool, last_state: str) -> RawOutcome:
    """Return the end of a message that is missing from the store, for an unknown reason.

    ``is_kept``: it has a retention, so it would still be there if it had completed just now.
    ``last_state``: its last known state.
    """
    if last_state == states.AGGREGATING:
        text = (
            f"task {task_id} has left its aggregation group: a program in Go made one task of the "
            "group, whose id is not announced; or the task was deleted"
        )
        return RawOutcome(REMOVED, text=text)
    return RawOutcome(REMOVED if is_kept else GONE)


def broken(task_id: str, error: BaseException) -> RawOutcome:
    """Return the end of a wait that failed because of an error within nbqueue."""
    fault = NbqueueError(
        f"waiting for task {task_id} failed within nbqueue ({type(error).__name__}: {error}); the "
        f"task goes on, and q.get({task_id!r}) waits for it anew"
    )
    fault.__cause__ = error
    return RawOutcome("", error=fault)
