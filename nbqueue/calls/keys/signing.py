"""Sign and verify calls and results.

Executors hold no key and never import this.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from nbqueue.calls.keys import key_file, task_mark
from nbqueue.calls.payloads import (
    CALL_CONTEXT,
    VALUE,
    Call,
    Result,
    around_call_signature,
    call_texts,
    packed_length,
    parse_call,
    parse_result,
    place_text,
    put_call_signature,
    put_result_signature,
    result_head,
    result_text,
    result_texts,
)
from nbqueue.errors import SignatureError, UnknownKey, UsageError
from nbqueue.runtime.buffers import LARGE, Piece

_SIGNATURE_SIZE = 16
_UNSIGNED = bytes(_SIGNATURE_SIZE)
_NO_KEY = bytes(4)
_VALUE = result_head(VALUE)
_VALUE_HEAD = _VALUE[:7]
_same = hmac.compare_digest


def key_id_of(key: bytes) -> bytes:
    """Return the four bytes that identify a key in a signature."""
    return sha256(b"nbqueue.key\0" + key).digest()[:4]


class _Mac:
    """HMAC-SHA256 with one key, over text in parts.

    No part is copied, and the blocks of the key are hashed once for all texts.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = sha256(bytes(each ^ 0x36 for each in block))
        self._outer = sha256(bytes(each ^ 0x5C for each in block))

    def sign(self, parts: Iterable[Piece]) -> bytes:
        inner = self._inner.copy()
        for part in parts:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:_SIGNATURE_SIZE]


class Keyring:
    """Signing keys: the first one signs, all of them verify.

    To rotate, put the new key first, and remove the old one when nothing that it signed is left.
    """

    __slots__ = ("_by_id", "_mac", "key_id")

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises `UsageError` without a key, or for a key without 32 bytes."""
        if not keys:
            raise UsageError("a keyring needs at least one key")
        if any(len(key) != key_file.KEY_SIZE for key in keys):
            raise UsageError(f"a signing key has {key_file.KEY_SIZE} bytes")
        self._by_id: dict[bytes, _Mac] = {}
        for key in keys:
            self._by_id.setdefault(key_id_of(key), _Mac(key))
        self.key_id = key_id_of(keys[0])
        self._mac = self._by_id[self.key_id]

    @classmethod
    def load(cls, config_directory: Path, environ: Mapping[str, str] | None = None) -> Keyring:
        """Return the keys of ``NBQUEUE_KEY``, or of the file ``key`` in ``config_directory``.

        The file is created, with mode 0600, if it is missing. Raises `UsageError` for keys that are
        malformed, readable by other users, or can be neither read nor created; `NoSigningKey` in a
        task, which creates none, and has none where its worker has ``NBQUEUE_KEY``.
        """
        text = (os.environ if environ is None else environ).get(key_file.VARIABLE, "")
        if text.strip():
            return cls(key_file.parse_variable(text))
        task_mark.refuse_if_keyless()
        return cls(key_file.load_or_make(Path(config_directory) / "key"))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The hexadecimal ids of all keys; the signing one is first."""
        return tuple(key_id.hex() for key_id in self._by_id)

    def sign_call(self, payload: bytes, task_id: str, queue: str, type: str) -> bytes:
        """Return the envelope of a call with a signature for this task."""
        signature = self._mac.sign(call_texts(task_id, queue, type, payload))
        return put_call_signature(payload, self.key_id, signature)

    def call_signer(self, head: bytes, queue: str, type: str) -> Callable[[str, Piece], bytes]:
        """Return a function that makes the signed ``head`` of a call's envelope.

        It takes a task's id and its arguments. The parts that all calls share are computed once.
        """
        sign, (begin, end) = self._mac.sign, around_call_signature(head)
        begin += self.key_id
        rest = place_text(queue, type) + head[:9] + end

        def sign_head(task_id: str, arguments: Piece) -> bytes:
            task = task_id.encode()
            text = CALL_CONTEXT + packed_length(len(task)) + task + rest
            return begin + sign((text, arguments)) + end

        return sign_head

    def verify_call(
        self,
        payload: bytes | memoryview,
        task_id: str,
        queue: str,
        type: str,
        *,
        only_head: bool = False,
    ) -> Call:
        """Verify a call for this task and return its parts.

        For detached arguments, ``payload`` is whole: they follow the head. With ``only_head`` they
        are not checked: do not use them.

        Raises `UnknownKey` if it names a key that is not here, and `SignatureError` if it is
        unsigned, changed, signed for another task, queue or type, or not a call.
        """
        call = parse_call(payload)
        mac = self._by_id.get(call.key_id)
        if mac is None:
            self._refuse(call.key_id, call.signature, f"the call of task {task_id}")
        signature = mac.sign(call_texts(task_id, queue, type, call.head))
        if not _same(signature, call.signature):
            raise SignatureError(
                f"the call of task {task_id} was changed after it was signed, or was signed for "
                f"another task, queue or type: it was not loaded"
            )
        if call.detached is not None and not only_head and not call.detached.is_of(call.arguments):
            raise SignatureError(
                f"the arguments of the call of task {task_id} are missing or were changed "
                f"after it was signed: they were not loaded"
            )
        return call

    def sign_result(self, payload: bytes, task_id: str) -> bytes:
        """Return the envelope of a result with a signature for this task."""
        signature = self._mac.sign(result_texts(task_id, payload))
        return put_result_signature(payload, self.key_id, signature)

    def sign_value(self, value: bytes, task_id: str) -> bytes:
        """Return the signed envelope of a small value, which is the usual result."""
        signature = self._mac.sign((result_text(task_id, _VALUE), value))
        return b"".join((_VALUE_HEAD, self.key_id, signature, value))

    def sign_result_apart(self, head: bytes, body: Sequence[Piece], task_id: str) -> bytes:
        """Return the signed ``head`` of a result whose body is detached."""
        signature = self._mac.sign((*result_texts(task_id, head), *body))
        return put_result_signature(head, self.key_id, signature)

    def verify_result(self, payload: bytes, task_id: str) -> Result:
        """Verify a result of this task and return its parts.

        Raises as `verify_call` does.
        """
        result = parse_result(payload)
        mac = self._by_id.get(result.key_id)
        if mac is None:
            self._refuse(result.key_id, result.signature, f"the result of task {task_id}")
        signature = mac.sign(result_texts(task_id, result.head))
        if not _same(signature, result.signature):
            raise SignatureError(
                f"the result of task {task_id} was changed after it was signed, or was signed "
                f"for another task: it was not loaded"
            )
        if result.detached is not None and not result.detached.is_of(result.body):
            raise SignatureError(
                f"the body of the result of task {task_id} is missing or was changed "
                f"after it was signed: it was not loaded"
            )
        return result

    def verify_value(self, payload: bytes, task_id: str) -> memoryview | None:
        """Return the verified value in a small result of this task, or None.

        None means anything else, such as an exception. This is the short path for a small value
        under the first key, which is the usual case.
        """
        if payload[:11] == _VALUE_HEAD + self.key_id and len(payload) <= LARGE:
            signature = self._mac.sign((result_text(task_id, payload),))
            return memoryview(payload)[27:] if _same(signature, payload[11:27]) else None
        try:
            result = self.verify_result(payload, task_id)
        except SignatureError:
            return None
        return result.body if result.kind == VALUE else None

    def _refuse(self, key_id: bytes, signature: bytes, what: str) -> NoReturn:
        if key_id == _NO_KEY and signature == _UNSIGNED:
            raise SignatureError(f"{what} is not signed: it was not loaded")
        raise UnknownKey(
            f"{what} was signed with the key {key_id.hex()}, and this process has "
            f"{', '.join(self.key_ids)}: give both sides the same {key_file.VARIABLE} or key file",
            key_id.hex(),
        )

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self.key_ids)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyring is secret and does not travel")
