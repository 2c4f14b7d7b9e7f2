"""Exceptions as bytes, and back, whatever they hold.

What travels is plain text that always arrives (type, message, traceback) and, where possible,
the exception itself, so that ``except MyError`` works on the side that asks.
"""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Any

from nbqueue.calls import active, pickler, rebuild
from nbqueue.calls.names import clean_text, type_name
from nbqueue.errors import IncompatiblePython, NbqueueError, TaskFailed

_FORMAT = 1
_MAX_TRACEBACK = 100_000
_MAX_MESSAGE = 10_000
_MAX_ERROR_TEXT = 2_000
_MAX_NESTED = 1_000_000
_MAX_NOTES = 20
_MAX_CHAIN = 100

_IMPORT_HOOK = active.__file__  # between an import and what it runs
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OUR_FOLDERS = tuple(os.path.join(_PACKAGE, part) + os.sep for part in ("executor", "calls"))


class RemoteTraceback(Exception):
    """The traceback of a task as its worker saw it: the cause of what ``result()`` raises."""

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        return f"\n\n--- traceback on the worker ---\n{text.rstrip()}\n--- end ---"


def dump_exception(exc: BaseException, *, skip_frames: int = 0) -> bytes:
    """Return ``exc`` as bytes; never fails for what an exception contains.

    The traceback begins at the user's first frame; ``skip_frames`` drops that many more of the
    outermost ones.
    """
    body = (
        _FORMAT,
        type_name(type(exc)),
        clean_text(_message(exc), _MAX_MESSAGE),
        traceback_text(exc, skip_frames=skip_frames),
        _notes(exc),
        _dump_itself(exc),
    )
    return pickle.dumps(body, pickler.PROTOCOL)


def load_exception(data: bytes | memoryview, task_id: str) -> BaseException:
    """Return the exception of `dump_exception`, with a `RemoteTraceback` as its cause.

    It is of the original type, or `TaskFailed` if that cannot be loaded here. Only for verified
    ``data``. Raises `IncompatiblePython` for a format that only a newer nbqueue knows.
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
            _add_note(exc, note)
    exc.__cause__ = RemoteTraceback(text)
    try:
        exc._render_traceback_ = _NotebookTraceback(text, task_id)  # type: ignore[attr-defined]
    except AttributeError:
        pass  # a class with slots: IPython shows it as any other
    return exc


class _NotebookTraceback:
    """What IPython shows of an exception that came from a worker: the frames there, and no others.

    Those of the wait here, which IPython would show, say nothing of what went wrong.
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
    """Return the traceback of ``exc`` from the user's first frame on, of limited length."""
    try:
        told = traceback.TracebackException.from_exception(exc, compact=True)
        _cut_chain(told)
        _drop_our_frames(told, exc, skip_frames)
        text = "".join(told.format())
    except Exception:  # user code runs in there: __str__, __repr__, properties
        text = f"{type_name(type(exc))}: {_message(exc)}\n(its traceback could not be formatted)\n"
    return clean_text(text, _MAX_TRACEBACK)


def _cut_chain(told: traceback.TracebackException) -> None:
    """Forget the far end of a chain of causes, which nobody would read."""
    link: traceback.TracebackException | None = told
    for _ in range(_MAX_CHAIN):
        if link is None:
            return
        link = link.__cause__ or link.__context__
    if link is not None:
        link.__cause__ = link.__context__ = None


def _drop_our_frames(
    told: traceback.TracebackException, exc: BaseException | None, skip: int
) -> None:
    pending = [(told, exc, skip)]
    while pending:
        one, its, more = pending.pop()
        files = [os.path.abspath(frame.filename) for frame in one.stack]
        ours = 0
        while ours < len(files) and files[ours].startswith(_OUR_FOLDERS):
            ours += 1
        if ours == len(files) and not isinstance(its, NbqueueError):
            ours = 0  # a fault of our own: where it happened is all there is
        del one.stack[: ours + more]
        one.stack[:] = [frame for frame in one.stack if frame.filename != _IMPORT_HOOK]
        if one.__cause__ is not None:
            pending.append((one.__cause__, getattr(its, "__cause__", None), 0))
        if one.__context__ is not None:
            pending.append((one.__context__, getattr(its, "__context__", None), 0))
        for other in getattr(one, "exceptions", None) or ():
            pending.append((other, None, 0))


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as error:
        return f"<its message cannot be shown: {type(error).__name__} in __str__>"


def _notes(exc: BaseException) -> list[str]:
    notes = getattr(exc, "__notes__", None)
    if not isinstance(notes, list | tuple):
        return []
    return [clean_text(n, _MAX_MESSAGE) for n in notes[:_MAX_NOTES] if isinstance(n, str)]


def _add_note(exc: BaseException, note: str) -> None:
    add = getattr(exc, "add_note", None)  # Python 3.11
    if add is not None:
        add(note)


def _dump_itself(exc: BaseException) -> bytes | None:
    """Return the pickled exception, or None if no form of it survives a round trip."""
    for form in (lambda: exc, lambda: _Bare(exc)):
        try:
            data = pickler.dump(form()).data
            # Many exceptions pickle and then fail to load, because ``__init__`` wants arguments
            # that ``args`` does not have. Better to know it here than in the notebook.
            if len(data) <= _MAX_NESTED and type(_load_here(data)) is type(exc):
                return data
        except Exception:
            continue
    return None


class _Bare:
    """An exception without what cannot be sent, and made without its ``__init__``."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc

    def __reduce__(self) -> tuple[Any, ...]:
        exc, trial = self.exc, pickler.Trial()
        args = tuple(a if _is_portable(a, trial) else _stand_in(a) for a in exc.args)
        state = {k: v for k, v in vars(exc).items() if _is_portable(v, trial)}
        return rebuild.make_exception, (type(exc), args, state)


def _is_portable(value: object, trial: pickler.Trial) -> bool:
    if trial.error_of(value) is not None:
        return False
    try:
        data = pickler.dump(value).data
        _load_here(data)
    except Exception:
        return False
    return len(data) < _MAX_NESTED // 10


def _load_here(data: bytes) -> object:
    with rebuild.classes_unchanged():
        return pickle.loads(data)


def _stand_in(value: object) -> str:
    try:
        return clean_text(repr(value), 1000)
    except Exception:
        return f"<{type_name(type(value))}>"


def _load_itself(nested: bytes | None) -> BaseException | None:
    if nested is None:
        return None
    try:
        exc = pickle.loads(nested)
    except Exception:
        return None
    return exc if isinstance(exc, BaseException) else None
