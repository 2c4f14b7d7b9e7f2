"""Values of columns whose bytes are verified, then unpickled: arguments, results, exceptions."""

from __future__ import annotations

from typing import Any

from nbqueue.broker.large_values import whole_payload, whole_result
from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.calls.functions import load_arguments
from nbqueue.calls.payloads import is_result
from nbqueue.client.results.json_results import has_json_result
from nbqueue.client.results.outcome import Outcome, RawOutcome
from nbqueue.client.session import Session
from nbqueue.wire import states


def cell_loaders(session: Session) -> dict[str, Any]:
    """Return functions that load the cells of columns whose bytes have to be verified.

    A value that cannot be loaded is replaced by the exception.
    """

    def outcome(row: TaskRow) -> Any:
        if row.state == states.COMPLETED and row.result is not None:
            body = whole_result(session.broker, row.queue, row.task_id, row.result)
            value, error = _outcome(session, row, RawOutcome(states.COMPLETED, body))
            return value if error is None else error
        return None

    def exception(row: TaskRow) -> Any:
        text = row.message.error_msg
        if row.state == states.COMPLETED or not (row.error or text):
            return None
        return _outcome(session, row, RawOutcome(states.ARCHIVED, row.error or b"", text))[1]

    def arguments(row: TaskRow) -> Any:
        message = row.message
        if not row.is_call:
            return None
        try:
            payload = whole_payload(session.broker, row.queue, row.task_id, message.payload)
            call = session.keyring.verify_call(payload, row.task_id, row.queue, message.type)
            return load_arguments(call.arguments)
        except Exception as error:
            return error

    return {"result": outcome, "exception": exception, "arguments": arguments}


def _outcome(session: Session, row: TaskRow, end: RawOutcome) -> tuple[Any, Exception | None]:
    is_json = (
        end.state == states.COMPLETED
        and row.is_call
        and not is_result(end.body)
        and has_json_result(session.keyring, row.queue, row.message)
    )
    return Outcome(row.task_id, end, session.keyring, row.is_call, is_json).load()
