"""Signatures of calls and results. Executors never import this: they hold no key."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from nbqueue.calls import keyfile
from nbqueue.calls.payloads import (
    Call,
    Result,
    call_text,
    parse_call,
    parse_result,
    put_call_signature,
    put_result_signature,
    result_text,
)
from nbqueue.errors import SignatureError, UnknownKey, UsageError

_SIGNATURE_SIZE = 16
_UNSIGNED = bytes(_SIGNATURE_SIZE)
_NO_KEY = bytes(4)
_digest = hmac.digest
_same = hmac.compare_digest


def key_id_of(key: bytes) -> bytes:
    """Return the four bytes by which a signature names its key."""
    return hashlib.sha256(b"nbqueue.key\0" + key).digest()[:4]


class Keyring:
    """Signing keys: the first signs, all of them verify.

    To rotate, put a new key first and keep the old one behind it until what it signed is gone.
    """

    __slots__ = ("_by_id", "_key", "key_id")

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises `UsageError` if there is no key, or one that has not 32 bytes."""
        if not keys:
            raise UsageError("a keyring needs at least one key")
        if any(len(key) != keyfile.KEY_SIZE for key in keys):
            raise UsageError(f"a signing key has {keyfile.KEY_SIZE} bytes")
        self._by_id: dict[bytes, bytes] = {}
        for key in keys:
            self._by_id.setdefault(key_id_of(key), key)
        self._key = keys[0]
        self.key_id = key_id_of(keys[0])

    @classmethod
    def load(cls, config_directory: Path, environ: Mapping[str, str] | None = None) -> Keyring:
        """Return the keys of ``NBQUEUE_KEY``, else of the file ``key`` in ``config_directory``.

        The file is made, with mode 0600, if it is not there. Raises `UsageError` for keys that
        are malformed, may be read by others, or can be neither read nor made.
        """
        text = (os.environ if environ is None else environ).get(keyfile.VARIABLE, "")
        if text.strip():
            return cls(keyfile.parse_variable(text))
        return cls(keyfile.load_or_make(Path(config_directory) / "key"))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys in hexadecimal, the one that signs first."""
        return tuple(key_id.hex() for key_id in self._by_id)

    def sign_call(self, payload: bytes, task_id: str, queue: str, type: str) -> bytes:
        """Return the envelope of a call with the signature that ties it to this task."""
        text = call_text(task_id, queue, type, payload)
        signature = _digest(self._key, text, "sha256")[:_SIGNATURE_SIZE]
        return put_call_signature(payload, self.key_id, signature)

    def sign_calls(self, calls: Iterable[tuple[bytes, str]], queue: str, type: str) -> list[bytes]:
        """Return the signed envelopes of many ``(payload, task_id)`` of one queue and type."""
        sign = self.sign_call
        return [sign(payload, task_id, queue, type) for payload, task_id in calls]

    def verify_call(self, payload: bytes, task_id: str, queue: str, type: str) -> Call:
        """Return the parts of a call that a holder of one of these keys signed for this task.

        Raises `UnknownKey` if it names a key that is not here, and `SignatureError` if it is
        unsigned, was changed, was signed for another task, queue or type, or is no call at all.
        """
        call = parse_call(payload)
        key = self._by_id.get(call.key_id)
        if key is None:
            self._refuse(call.key_id, call.signature, f"the call of task {task_id}")
        signature = _digest(key, call_text(task_id, queue, type, payload), "sha256")
        if not _same(signature[:_SIGNATURE_SIZE], call.signature):
            raise SignatureError(
                f"the call of task {task_id} was changed after it was signed, or was signed for "
                f"another task, queue or type: it was not loaded"
            )
        return call

    def sign_result(self, payload: bytes, task_id: str) -> bytes:
        """Return the envelope of a result with the signature that ties it to this task."""
        signature = _digest(self._key, result_text(task_id, payload), "sha256")
        return put_result_signature(payload, self.key_id, signature[:_SIGNATURE_SIZE])

    def verify_result(self, payload: bytes, task_id: str) -> Result:
        """Return the parts of a result that a holder of one of these keys signed for this task.

        Raises as `verify_call` does.
        """
        result = parse_result(payload)
        key = self._by_id.get(result.key_id)
        if key is None:
            self._refuse(result.key_id, result.signature, f"the result of task {task_id}")
        signature = _digest(key, result_text(task_id, payload), "sha256")
        if not _same(signature[:_SIGNATURE_SIZE], result.signature):
            raise SignatureError(
                f"the result of task {task_id} was changed after it was signed, or was signed "
                f"for another task: it was not loaded"
            )
        return result

    def _refuse(self, key_id: bytes, signature: bytes, what: str) -> NoReturn:
        if key_id == _NO_KEY and signature == _UNSIGNED:
            raise SignatureError(f"{what} is not signed: it was not loaded")
        raise UnknownKey(
            f"{what} was signed with the key {key_id.hex()}, and this process has "
            f"{', '.join(self.key_ids)}: give both sides the same {keyfile.VARIABLE} or key file",
            key_id.hex(),
        )

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self.key_ids)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Keyring is secret and does not travel")
