"""The result of a task as views show it: a small plain value, or the executor's preview."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Final

from nbqueue.calls import payloads
from nbqueue.client.results.outcome import Outcome
from nbqueue.errors import SignatureError
from nbqueue.runtime.buffers import LARGE
from nbqueue.sizes import format_size
from nbqueue.tasks.result_preview import ResultPreview, preview_owner
from nbqueue.wire import fields
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_MOST_TEXT: Final = 4_000
_MOST_SUMMARY: Final = 120

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 100
_short.maxstring = _short.maxother = _MOST_TEXT


def shown_result(
    session: Session, queue: str, task_id: str, outcome: Outcome, size: int
) -> ResultPreview:
    """Return what views show of the result of a completed task, without loading it.

    ``size``: that of the result in bytes. Reads the store if the result is not a small plain
    value: raises `StoreError`. Other errors become text.
    """
    try:
        value = outcome.plain_value(LARGE)
    except SignatureError as error:
        return ResultPreview(f"cannot be shown: {error}")
    except ValueError:
        pass
    else:
        return _of_text(_short.repr(value))
    return read_preview(session, queue, task_id) or _of_loaded(outcome, task_id, size)


def read_preview(session: Session, queue: str, task_id: str) -> ResultPreview | None:
    """Read and verify the preview of a result; None if it has none. Raises `StoreError`."""
    call = ("HGET", stored_keys(queue).task(task_id), fields.PREVIEW)
    [stored] = session.broker.call(call, on=queue)
    if not stored:
        return None
    try:
        envelope = session.keyring.verify_result(stored, preview_owner(task_id, queue))
    except SignatureError:
        return ResultPreview("not shown: its preview was not signed with the key")
    if envelope.kind != payloads.PREVIEW:
        return ResultPreview("not shown: its preview is of another kind")
    try:
        return ResultPreview.unpack(bytes(envelope.body))
    except ValueError:
        return ResultPreview("not shown: its preview cannot be read")


def _of_loaded(outcome: Outcome, task_id: str, size: int) -> ResultPreview:
    """Return a result without a preview: its text if it was loaded, else its size."""
    loaded = outcome.loaded
    if loaded is None:
        return ResultPreview(f'{format_size(size)}; q.get("{task_id}").result() loads it')
    value, error = loaded
    if error is not None:
        return ResultPreview(f"cannot be shown: {type(error).__name__}")
    try:
        return _of_text(_short.repr(value))
    except Exception:
        return ResultPreview(f"a {type(value).__name__}")


def _of_text(text: str) -> ResultPreview:
    line = " ".join(text.split())
    if len(line) <= _MOST_SUMMARY:
        return ResultPreview(line)
    return ResultPreview(line[: _MOST_SUMMARY - 1].rstrip() + "…", text[:_MOST_TEXT])
