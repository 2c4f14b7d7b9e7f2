"""Calls of one function, ready to become tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbqueue.calls import payloads
from nbqueue.calls.call_extensions import Seed
from nbqueue.calls.detached import describe_body
from nbqueue.calls.functions import Code, dump_function
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.submitting.call_shapes import CallShapes
from nbqueue.client.submitting.prepared_task import PreparedTask
from nbqueue.client.submitting.resolved_options import ResolvedOptions
from nbqueue.runtime.buffers import LARGE, Body, parts_of
from nbqueue.tasks.new_task import NewTask
from nbqueue.tasks.retry_policy import WithPolicy
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import message_encoder

if TYPE_CHECKING:
    from nbqueue.client.session import Session


def dump_with_policy(fn: Callable[..., Any], resolved: ResolvedOptions, limit: int) -> Code:
    """Return a function as it is stored, with its retry policy.

    Raises as `dump_function` does, and `ValueTooLarge` for more than ``limit`` bytes.
    """
    code = dump_function(fn, limit)
    if resolved.policy is None:
        return code
    # A policy may be made of code, too, and travels with the function.
    whole = dump_function(WithPolicy(fn, resolved.policy), limit)
    return replace(whole, name=code.name, is_coroutine=code.is_coroutine)


class PreparedCall(PreparedTask):
    """One function with its options, ready to make tasks of arguments."""

    def __init__(
        self,
        session: Session,
        resolved: ResolvedOptions,
        fn: Callable[..., Any],
        code: Code | None = None,
    ) -> None:
        given = resolved.options
        given.check_call()
        if code is None:
            code = dump_with_policy(fn, resolved, session.code_limit)
        session.check_value(len(code.blob), f"the code of {code.name}")
        is_json = given.codec == "json"
        facts = TaskFacts("", given.queue, code.name, given.name, is_json=is_json)
        super().__init__(session, resolved, facts)
        self.fn = fn
        self.code: Code = code
        self.shapes = CallShapes(fn, by_reference=code.by_reference)
        self.fingerprint, self.blob = code.fingerprint, code.blob
        self.flags = (
            payloads.COROUTINE * code.is_coroutine
            | payloads.BY_REFERENCE * code.by_reference
            | payloads.FAIL_IF_LOST * (given.on_lost == "fail")
            | payloads.JSON_RESULT * is_json
            | payloads.FRESH * given.fresh
        )
        self.keyring = session.keyring
        head = payloads.call_head(code.fingerprint, self.flags, resolved.limits)
        self._sign = self.keyring.call_signer(head, self.queue, code.name)
        self._encode = message_encoder(self.message)

    def set_lock(self, digest: str) -> None:
        """Make the task unique by its queue, its type and this digest of its arguments."""
        self.message.unique_key = queue_keys(self.queue).lock(self.facts.type, digest)
        self._encode = message_encoder(self.message)

    def task(self, task_id: str, arguments: Body, number: int = 0) -> NewTask:
        """Make a task of dumped arguments.

        ``number`` is its place in a map. With a seed, each has random numbers of its own.
        """
        if len(arguments) > LARGE or self.resolved.seed is not None:
            return self._signed_task(task_id, arguments, number)
        assert isinstance(arguments, bytes)
        head = self._sign(task_id, arguments)
        return NewTask(task_id, self._encode(task_id, head + arguments))

    def _signed_task(self, task_id: str, arguments: Body, number: int) -> NewTask:
        """Make a task whose head is its own.

        Large arguments are stored apart from the message, which is written again at each end.
        """
        code, seed = self.code, self.resolved.seed
        own = None if seed is None else Seed(seed, number)
        sign, rest, detached = self.session.keyring.sign_call, b"", None
        pieces: list[Body] = []
        if len(arguments) > LARGE:
            detached, pieces = describe_body(parts_of(arguments))
        else:
            rest = bytes(arguments)
        head = payloads.call_head(code.fingerprint, self.flags, self.resolved.limits, detached, own)
        payload = sign(head + rest, task_id, self.queue, code.name)
        return NewTask(task_id, self._encode(task_id, payload), pieces)
