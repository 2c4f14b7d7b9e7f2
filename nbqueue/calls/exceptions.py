"""Encode and decode exceptions, including those that do not pickle.

The type, the message and the traceback are always sent as plain text. The exception itself is sent
where possible, so that ``except MyError`` works in the client.
"""

from __future__ import annotations

import os
import pickle
import traceback

from nbqueue.calls import raw_exceptions
from nbqueue.calls.exception_forms import dump_itself
from nbqueue.calls.modules import active_modules
from nbqueue.calls.pickling import pickler
from nbqueue.calls.readable_names import clean_text, type_name
from nbqueue.errors import IncompatiblePython, NbqueueError, TaskFailed
from nbqueue.printable import printable

_FORMAT = 1
_MAX_TRACEBACK = 100_000
_MAX_MESSAGE = 10_000
_MAX_ERROR_TEXT = 2_000
_MAX_NOTES = 20
_MAX_CHAIN = 100

_IMPORT_HOOK = active_modules.__file__  # between an import and the code that it runs
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OURS = ("executor", "tasks", "calls")
_OUR_FOLDERS = tuple(os.path.join(_PACKAGE, part) + os.sep for part in _OURS)


class RemoteTraceback(Exception):
    """The traceback on the worker, as the cause of a raised exception."""

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        shown = printable(text.rstrip(), lines=True)
        return f"\n\n--- traceback on the worker ---\n{shown}\n--- end ---"


def dump_exception(exc: BaseException, *, skip_frames: int = 0) -> bytes:
    """Encode ``exc``. Never fails because of the exception's content.

    The traceback begins at the user's first frame; ``skip_frames`` drops that many more of the
    outermost ones.
    """
    body = (
        _FORMAT,
        type_name(type(exc)),
        clean_text(_message(exc), _MAX_MESSAGE),
        traceback_text(exc, skip_frames=skip_frames),
        notes_of(exc),
        dump_itself(exc, stand_in_text),
    )
    return pickle.dumps(body, pickler.PROTOCOL)


def load_exception(data: bytes | memoryview, task_id: str) -> BaseException:
    """Decode the exception of `dump_exception`, with a `RemoteTraceback` as its cause.

    It has the original type, or is a `TaskFailed` if that cannot be loaded here. Only for verified
    ``data``. Raises `IncompatiblePython` for a format that only a newer nbqueue can read.
    """
    version, *rest = pickle.loads(data)
    if version != _FORMAT:
        raise IncompatiblePython(
            f"the error of task {task_id} was stored in format {version} by a newer nbqueue: "
            "upgrade nbqueue here"
        )
    name, message, text, notes, nested = rest
    exc = _load_itself(nested)
    if exc is None:
        exc = TaskFailed(f"{name}: {message}" if message else name, task_id, text)
        for note in notes:
            raw_exceptions.add_note(exc, note)
    _set_task_id(exc, task_id)
    raw_exceptions.set_cause(exc, RemoteTraceback(text))
    raw_exceptions.names_of(exc)["_render_traceback_"] = _NotebookTraceback(text, task_id)
    return exc


def _set_task_id(exc: BaseException, task_id: str) -> None:
    """Set the task id of group members that stand for unloadable ones."""
    if isinstance(exc, raw_exceptions.group_types()):
        for member in raw_exceptions.members_of(exc):
            if isinstance(member, TaskFailed) and not member.task_id:
                member.task_id = task_id
            _set_task_id(member, task_id)


class _NotebookTraceback:
    """Show only the frames on the worker in IPython.

    The local frames, which IPython would show, only belong to the wait.
    """

    def __init__(self, text: str, task_id: str) -> None:
        self._text = text
        self._task_id = task_id

    def __call__(self) -> list[str]:
        lines = self._text.rstrip().splitlines()
        return [*lines, "", f"(on a worker, in task {self._task_id}; f.replay() runs it here)"]


def error_text(exc: BaseException) -> str:
    """Return ``"ValueError: message"`` on one line, valid UTF-8 of at most 2,000 bytes."""
    message = " ".join(_message(exc)[:_MAX_MESSAGE].split())
    name = type_name(type(exc))
    text = clean_text(f"{name}: {message}" if message else name, _MAX_ERROR_TEXT)
    raw = text.encode("utf-8")
    if len(raw) > _MAX_ERROR_TEXT:
        text = raw[: _MAX_ERROR_TEXT - 3].decode("utf-8", "ignore") + "…"
    return text


def traceback_text(exc: BaseException, *, skip_frames: int = 0) -> str:
    """Return the traceback of ``exc`` from the user's first frame on.

    Its length is limited.
    """
    try:
        formatted = traceback.TracebackException.from_exception(exc, compact=True)
        _cut_chain(formatted)
        _drop_our_frames(formatted, exc, skip_frames)
        text = "".join(formatted.format())
    except Exception:  # user code runs here: __str__, __repr__, properties
        text = _frames_only(exc, skip_frames)
    return clean_text(text, _MAX_TRACEBACK)


def _frames_only(exc: BaseException, skip_frames: int) -> str:
    """Format an exception's frames when its own code fails.

    Causes and notes are left out.
    """
    last = f"{type_name(type(exc))}: {_message(exc)}\n"
    try:
        frames = traceback.extract_tb(raw_exceptions.traceback_of(exc))
        del frames[: _count_our_frames(frames) + skip_frames]
        lines = frames.format()
    except Exception:
        return f"{last}(its traceback could not be formatted)\n"
    return "".join(["Traceback (most recent call last):\n", *lines, last])


def _cut_chain(formatted: traceback.TracebackException) -> None:
    """Cut a very long chain of causes."""
    link: traceback.TracebackException | None = formatted
    for _ in range(_MAX_CHAIN):
        if link is None:
            return
        link = link.__cause__ or link.__context__
    if link is not None:
        link.__cause__ = link.__context__ = None


def _drop_our_frames(
    formatted: traceback.TracebackException, exc: BaseException | None, skip: int
) -> None:
    pending = [(formatted, exc, skip)]
    while pending:
        one, its, more = pending.pop()
        ours = _count_our_frames(one.stack)
        if ours == len(one.stack) and not isinstance(its, NbqueueError):
            ours = 0  # an nbqueue bug: the location is all there is
        del one.stack[: ours + more]
        one.stack[:] = [frame for frame in one.stack if frame.filename != _IMPORT_HOOK]
        if one.__cause__ is not None:
            pending.append((one.__cause__, getattr(its, "__cause__", None), 0))
        if one.__context__ is not None:
            pending.append((one.__context__, getattr(its, "__context__", None), 0))
        for other in getattr(one, "exceptions", None) or ():
            pending.append((other, None, 0))


def _count_our_frames(frames: traceback.StackSummary) -> int:
    files = [os.path.abspath(frame.filename) for frame in frames]
    ours = 0
    while ours < len(files) and files[ours].startswith(_OUR_FOLDERS):
        ours += 1
    return ours


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as error:
        return f"<its message cannot be shown: {type(error).__name__} in __str__>"


def stand_in_text(exc: BaseException) -> tuple[str, list[str]]:
    """Return the message and the notes of the substitute for an exception."""
    return error_text(exc), notes_of(exc)


def notes_of(exc: BaseException) -> list[str]:
    """Return the notes of ``exc``, of limited number and length."""
    try:
        notes = exc.__notes__  # type: ignore[attr-defined,unused-ignore]
    except Exception:  # it has no notes, or a property of the user's class fails
        return []
    if not isinstance(notes, list | tuple):
        return []
    return [clean_text(n, _MAX_MESSAGE) for n in notes[:_MAX_NOTES] if isinstance(n, str)]


def _load_itself(nested: bytes | None) -> BaseException | None:
    if nested is None:
        return None
    try:
        exc = pickle.loads(nested)
    except Exception:
        return None
    return exc if isinstance(exc, BaseException) else None
