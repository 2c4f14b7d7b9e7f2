"""The envelopes, byte for byte."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.calls import payloads
from nbqueue.calls.call_extensions import Seed
from nbqueue.calls.detached import DetachedBody
from nbqueue.calls.keys.signing import Keyring
from nbqueue.errors import SignatureError

FINGERPRINT = bytes(range(16))
PYTHON = bytes(sys.version_info[:2])


def test_call_has_these_bytes() -> None:
    flags = payloads.COROUTINE | payloads.BY_REFERENCE
    payload = payloads.pack_call(FINGERPRINT, b"ARGS", flags)
    assert payload == b"\x00nbq\x01\x01" + PYTHON + b"\x05" + bytes(20) + FINGERPRINT + b"ARGS"
    signed = payloads.put_call_signature(payload, b"KKKK", b"S" * 16)
    assert signed == (b"\x00nbq\x01\x01" + PYTHON + b"\x05KKKK" + b"S" * 16 + FINGERPRINT + b"ARGS")
    assert signed.index(FINGERPRINT) == 29


def test_text_of_a_call_has_these_bytes() -> None:
    payload = payloads.pack_call(FINGERPRINT, b"ARGS")
    text = payloads.call_text("id-1", "qué", "fit", payload)
    assert text == (
        b"nbqueue.call.1\0"
        b"\0\0\0\x04id-1"
        b"\0\0\0\x04qu\xc3\xa9"
        b"\0\0\0\x03fit"
        b"\x00nbq\x01\x01" + PYTHON + b"\x00" + FINGERPRINT + b"ARGS"
    )


def test_result_has_these_bytes() -> None:
    payload = payloads.pack_result(payloads.EXCEPTION, b"BODY")
    assert payload == b"\x00nbr\x01\x01\x01" + bytes(20) + b"BODY"
    signed = payloads.put_result_signature(payload, b"KKKK", b"S" * 16)
    assert signed == b"\x00nbr\x01\x01\x01KKKK" + b"S" * 16 + b"BODY"
    assert payloads.result_text("id-1", signed) == (
        b"nbqueue.result.1\0\0\0\0\x04id-1\x00nbr\x01\x01\x01BODY"
    )


def test_exact_limits_have_these_bytes_and_are_signed() -> None:
    limits = payloads.Timeouts(250, 2_000_000_000_123)
    payload = payloads.pack_call(FINGERPRINT, b"ARGS", 0, limits)
    body = FINGERPRINT + bytes.fromhex("00000000000000fa") + bytes.fromhex("000001d1a94a207b")
    assert payload == b"\x00nbq\x01\x01" + PYTHON + b"\x10" + bytes(20) + body + b"ARGS"
    call = payloads.parse_call(payload)
    assert (call.timeouts, call.arguments, call.flags) == (limits, b"ARGS", payloads.HAS_TIMEOUTS)
    assert payloads.call_text("i", "q", "t", payload).endswith(body + b"ARGS")
    with pytest.raises(SignatureError, match="cut short"):
        payloads.parse_call(payload[:60])


@pytest.mark.parametrize(
    ("timeout_ms", "deadline_ms", "limits"),
    [(0, 0, None), (1000, 0, None), (1000, 5000, None), (250, 0, (250, 0)), (0, 1, (0, 1)),
     (2000, 5001, (2000, 5001))],
)  # fmt: skip
def test_limits_travel_where_whole_seconds_do_not_say_it(
    timeout_ms: int, deadline_ms: int, limits: Any
) -> None:
    assert payloads.finer_timeouts(timeout_ms, deadline_ms) == limits


@given(st.binary(min_size=16, max_size=16), st.binary(), st.integers(0, 7))
def test_call_is_parsed_as_it_was_packed(fingerprint: bytes, arguments: bytes, flags: int) -> None:
    payload = payloads.pack_call(fingerprint, arguments, flags)
    assert payloads.is_call(payload)
    assert not payloads.is_result(payload)
    call = payloads.parse_call(payloads.put_call_signature(payload, b"KKKK", b"S" * 16))
    assert call.version == call.codec == 1
    assert call.python == sys.version_info[:2]
    assert (call.flags, call.fingerprint, call.arguments) == (flags, fingerprint, arguments)
    assert (call.key_id, call.signature) == (b"KKKK", b"S" * 16)


@given(st.binary(), st.sampled_from([payloads.VALUE, payloads.EXCEPTION]))
def test_result_is_parsed_as_it_was_packed(body: bytes, kind: int) -> None:
    payload = payloads.put_result_signature(payloads.pack_result(kind, body), b"KKKK", b"S" * 16)
    assert payloads.is_result(payload)
    assert payloads.parse_result(payload) == (
        1, 1, kind, b"KKKK", b"S" * 16, body, None, payload,
    )  # fmt: skip


@given(st.tuples(*[st.text(max_size=5)] * 3), st.tuples(*[st.text(max_size=5)] * 3))
def test_different_names_never_give_the_same_text(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    payload = payloads.pack_call(FINGERPRINT, b"")
    same = payloads.call_text(*one, payload) == payloads.call_text(*two, payload)
    assert same == (one == two)


CALL = payloads.pack_call(FINGERPRINT, b"ARGS")
RESULT = payloads.pack_result(payloads.VALUE, b"BODY")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "no call"),
        (b'{"user": 1}', "no call of nbqueue"),
        (CALL[:4], "cut short"),
        (CALL[:44], "cut short: it has 44 bytes"),
        (CALL[:4] + b"\x02" + CALL[5:], "format 2 and was made by a newer nbqueue: upgrade this"),
        (CALL[:4] + b"\x02", "newer nbqueue: upgrade this worker"),
        (CALL[:4] + b"\x00" + CALL[5:], "never was"),
        (CALL[:5] + b"\x09" + CALL[6:], "codec 9.*newer nbqueue"),
    ],
)
def test_call_that_cannot_be_read_says_why(payload: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        payloads.parse_call(payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"plain bytes of a handler", "no result"),
        (RESULT[:26], "cut short"),
        (RESULT[:4] + b"\x07" + RESULT[5:], "format 7.*newer nbqueue: upgrade nbqueue here"),
        (RESULT[:5] + b"\x07" + RESULT[6:], "codec 7"),
        (RESULT[:6] + b"\x07" + RESULT[7:], "newer nbqueue"),
    ],
)
def test_result_that_cannot_be_read_says_why(payload: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        payloads.parse_result(payload)


def test_empty_call_and_result_are_whole() -> None:
    assert payloads.parse_call(CALL[:45]).arguments == b""
    assert payloads.parse_result(RESULT[:27]).body == b""


def test_fingerprint_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        payloads.pack_call(b"short", b"")


class TestSeeds:
    def packed(self, seed: int, number: int, *, beside: bool = False) -> bytes:
        own = Seed(seed, number)
        apart = DetachedBody(5_000_000, 4_000_000, b"d" * 32) if beside else None
        limits = payloads.Timeouts(1500, 0)
        return payloads.call_head(bytes(range(16)), payloads.COROUTINE, limits, apart, own)

    @pytest.mark.parametrize("beside", [False, True])
    @given(st.integers(0, 2**8192 - 1), st.integers(0, 2**64 - 1))
    def test_a_seed_comes_back_with_all_around_it(
        self, beside: bool, seed: int, number: int
    ) -> None:
        head = self.packed(seed, number, beside=beside)
        call = payloads.parse_call(head + b"rest")
        assert call.seed == Seed(seed, number)
        assert call.timeouts == payloads.Timeouts(1500, 0)
        assert call.flags == payloads.COROUTINE | payloads.HAS_TIMEOUTS
        assert bytes(call.arguments) == b"rest"
        assert (call.detached is not None) is beside
        assert (payloads.detached_arguments(head) is not None) is beside
        assert head.startswith(payloads.DETACHED_CALLS) is beside

    def test_what_is_cut_short_is_refused(self) -> None:
        head = self.packed(7, 3)
        for size in range(len(head)):
            with pytest.raises(SignatureError):
                payloads.parse_call(head[:size])

    def test_an_extension_that_is_not_known_is_refused(self) -> None:
        head = bytearray(self.packed(7, 3))
        at = bytes(head).index(b"\x00\x0c\x01") + 2
        head[at] = 9
        with pytest.raises(SignatureError, match=r"extension 9.*newer nbqueue knows: upgrade"):
            payloads.parse_call(bytes(head))

    @given(st.binary(max_size=40))
    def test_garbage_is_refused_or_read_but_never_a_crash(self, data: bytes) -> None:
        begin = self.packed(7, 3)[:45]
        with contextlib.suppress(SignatureError):
            payloads.parse_call(begin + data)

    def test_seed_and_number_are_signed(self) -> None:
        keys = Keyring([bytes(32)])
        signed = keys.sign_call(self.packed(7, 3) + b"args", "id", "q", "fit")
        assert keys.verify_call(signed, "id", "q", "fit").seed == Seed(7, 3)
        for other in (Seed(7, 4), Seed(6, 3)):
            changed = signed.replace(Seed(7, 3).pack(), other.pack())
            assert changed != signed
            with pytest.raises(SignatureError, match="was changed"):
                keys.verify_call(changed, "id", "q", "fit")
