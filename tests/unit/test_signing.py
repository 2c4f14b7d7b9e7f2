"""Signatures, and the sources of keys."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring, key_id_of
from nbqueue.errors import SignatureError, UnknownKey, UsageError

KEY, OTHER = b"k" * 32, b"o" * 32
CALL = payloads.pack_call(bytes(range(16)), b"ARGS")
RESULT = payloads.pack_result(payloads.VALUE, b"BODY")
WHERE = ("id-1", "default", "fit")


def test_signature_has_these_bytes() -> None:
    ring = Keyring([KEY])
    assert ring.key_id == hashlib.sha256(b"nbqueue.key\0" + KEY).digest()[:4]
    signed = ring.sign_call(CALL, *WHERE)
    assert signed[:9] + signed[29:] == CALL[:9] + CALL[29:]
    assert signed[9:13] == ring.key_id
    head = (
        b"nbqueue.call.1\0\0\0\0\x04id-1\0\0\0\x07default\0\0\0\x03fit\x00nbq\x01\x01\x03\x0b\x00"
    )
    as_311 = ring.sign_call(CALL[:6] + b"\x03\x0b" + CALL[8:], *WHERE)
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in KEY + bytes(32)) + head + CALL[29:]).digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in KEY + bytes(32)) + inner).digest()
    assert as_311[13:29] == outer[:16]
    assert as_311[13:29].hex() == "d5bb2467605f8445c139f89006ba8bcc"


def test_signed_call_is_verified_and_parsed() -> None:
    ring = Keyring([KEY])
    call = ring.verify_call(ring.sign_call(CALL, *WHERE), *WHERE)
    assert call.arguments == b"ARGS"
    assert call.fingerprint == bytes(range(16))


@given(st.integers(0, len(CALL) - 1), st.integers(1, 255))
def test_no_byte_of_a_call_can_be_changed(index: int, change: int) -> None:
    ring = Keyring([KEY])
    signed = bytearray(ring.sign_call(CALL, *WHERE))
    signed[index] ^= change
    with pytest.raises(SignatureError):
        ring.verify_call(bytes(signed), *WHERE)


@given(st.integers(0, len(RESULT) - 1), st.integers(1, 255))
def test_no_byte_of_a_result_can_be_changed(index: int, change: int) -> None:
    ring = Keyring([KEY])
    signed = bytearray(ring.sign_result(RESULT, "id-1"))
    signed[index] ^= change
    with pytest.raises(SignatureError):
        ring.verify_result(bytes(signed), "id-1")


@pytest.mark.parametrize(
    "where", [("id-2", *WHERE[1:]), ("id-1", "low", "fit"), ("id-1", "default", "f")]
)
def test_call_signed_for_another_task_queue_or_type_is_refused(where: tuple[str, str, str]) -> None:
    ring = Keyring([KEY])
    with pytest.raises(SignatureError, match="another task, queue or type"):
        ring.verify_call(ring.sign_call(CALL, *WHERE), *where)


def test_result_of_another_task_is_refused() -> None:
    ring = Keyring([KEY])
    signed = ring.sign_result(RESULT, "id-1")
    assert ring.verify_result(signed, "id-1").body == b"BODY"
    with pytest.raises(SignatureError, match="another task"):
        ring.verify_result(signed, "id-2")


def test_unsigned_is_refused_as_unsigned() -> None:
    ring = Keyring([KEY])
    with pytest.raises(SignatureError, match="is not signed") as info:
        ring.verify_call(CALL, *WHERE)
    assert not isinstance(info.value, UnknownKey)
    with pytest.raises(SignatureError, match="is not signed"):
        ring.verify_result(RESULT, "id-1")


def test_unknown_key_is_named_with_those_that_are_here() -> None:
    signed = Keyring([OTHER]).sign_call(CALL, *WHERE)
    with pytest.raises(UnknownKey) as info:
        Keyring([KEY]).verify_call(signed, *WHERE)
    assert info.value.key_id == key_id_of(OTHER).hex()
    assert key_id_of(OTHER).hex() in str(info.value)
    assert key_id_of(KEY).hex() in str(info.value)


def test_all_keys_verify_and_the_first_signs() -> None:
    old, rotated = Keyring([OTHER]), Keyring([KEY, OTHER, KEY])
    assert rotated.verify_call(old.sign_call(CALL, *WHERE), *WHERE).arguments == b"ARGS"
    assert rotated.sign_call(CALL, *WHERE) == Keyring([KEY]).sign_call(CALL, *WHERE)
    assert rotated.key_ids == (key_id_of(KEY).hex(), key_id_of(OTHER).hex())


def test_many_are_signed_as_one_is() -> None:
    ring = Keyring([KEY])
    head, arguments = CALL[:45], CALL[45:]
    sign = ring.call_signer(head, "default", "fit")
    signed = [sign(i, arguments) + arguments for i in ("id-1", "id-2")]
    assert signed == [ring.sign_call(CALL, i, "default", "fit") for i in ("id-1", "id-2")]


def test_keyring_shows_no_key_and_does_not_travel() -> None:
    ring = Keyring([KEY])
    assert repr(ring) == f"<Keyring {key_id_of(KEY).hex()}>"
    assert KEY.hex() not in repr(ring)
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(ring)


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b""]])
def test_keyring_wants_keys_of_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(UsageError):
        Keyring(keys)


# --- where keys come from


def test_variable_takes_hex_text_and_several(tmp_path: Path) -> None:
    text = "correct horse battery"
    ring = Keyring.load(tmp_path, {"NBQUEUE_KEY": f" {KEY.hex()} , {text},"})
    derived = hashlib.sha256(text.encode()).digest()
    assert ring.key_ids == (key_id_of(KEY).hex(), key_id_of(derived).hex())
    assert list(tmp_path.iterdir()) == []


def test_short_variable_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="key 2 has 6 characters") as info:
        Keyring.load(tmp_path, {"NBQUEUE_KEY": f"{KEY.hex()},hunter"})
    assert "hunter" not in str(info.value)
    with pytest.raises(UsageError, match="holds no key"):
        Keyring.load(tmp_path, {"NBQUEUE_KEY": " , "})


def test_key_file_is_made_once_private_and_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "nbqueue"
    ring = Keyring.load(folder, {"NBQUEUE_KEY": ""})
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["key"]
    assert Keyring.load(folder, {}).key_ids == ring.key_ids


def test_key_file_holds_several_keys_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"# ours\n\n{KEY.hex()}  # since May\n{OTHER.hex()}\n")
    path.chmod(0o600)
    expected = (key_id_of(KEY).hex(), key_id_of(OTHER).hex())
    assert Keyring.load(tmp_path, {}).key_ids == expected


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(KEY.hex())
    path.chmod(mode)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        Keyring.load(tmp_path, {})


def test_malformed_line_is_named_but_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY.hex()}\nsecret-but-wrong\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="line 2 of") as info:
        Keyring.load(tmp_path, {})
    assert "secret-but-wrong" not in str(info.value)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="holds no key"):
        Keyring.load(tmp_path, {})


def test_directory_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    # Modes mean nothing to root, who may well run this.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match=r"Permission denied; .*NBQUEUE_KEY"):
        Keyring.load(tmp_path, {})


def test_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="signing key"):
        Keyring.load(tmp_path / "file", {})


def test_file_system_without_links_still_gets_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    ring = Keyring.load(tmp_path, {})
    assert Keyring.load(tmp_path, {}).key_ids == ring.key_ids
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_processes_that_start_at_once_end_with_the_same_key(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from nbqueue.calls.keys.signing import Keyring; sys.stdin.read();"
        "print(Keyring.load(pathlib.Path(sys.argv[1]), {}).key_ids)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "config")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:  # each waits for this before it looks for the file
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    answers = {process.communicate(timeout=30)[0] for process in started}
    assert len(answers) == 1
    assert answers != {""}


def test_executor_side_imports_no_signing() -> None:
    program = (
        "import sys, nbqueue.calls.functions, nbqueue.calls.payloads, nbqueue.calls.exceptions;"
        "bad = {'hmac', 'nbqueue.calls.keys.signing', 'nbqueue.calls.keys.key_file', 'redis',"
        " 'google',"
        " 'pandas', 'numpy', 'IPython'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_only_short_types_are_kept() -> None:
    ring = Keyring([KEY])
    for kind, kept in (("t" * 1000, 1), ("t" * 1001, 0)):
        payloads.place_text.cache_clear()
        where = ("id-1", "default", kind)
        assert ring.verify_call(ring.sign_call(CALL, *where), *where).arguments == b"ARGS"
        assert payloads.place_text.cache_info().currsize == kept


@pytest.mark.parametrize("size", [0, 4, 200_000])
@pytest.mark.parametrize("signer", [KEY, OTHER])
def test_a_signed_value_is_verified_for_its_own_task_only(size: int, signer: bytes) -> None:
    ring, body = Keyring([KEY, OTHER]), b"v" * size
    unsigned = payloads.pack_result(payloads.VALUE, body)
    signed = Keyring([signer]).sign_result(unsigned, "id-1")
    assert ring.verify_value(signed, "id-1") == body
    assert ring.verify_value(signed, "id-2") is None
    assert ring.verify_value(signed + b"!", "id-1") is None
    changed = [signed[:at] + bytes((signed[at] ^ 1,)) + signed[at + 1 :] for at in range(27)]
    assert [ring.verify_value(each, "id-1") for each in changed] == [None] * 27


def test_what_is_no_signed_value_is_not_taken_for_one() -> None:
    ring = Keyring([KEY])
    signed = ring.sign_result(RESULT, "id-1")
    error = ring.sign_result(payloads.pack_result(payloads.EXCEPTION, b"BODY"), "id-1")
    foreign = Keyring([OTHER]).sign_result(RESULT, "id-1")
    cut_short = [signed[:size] for size in range(len(signed))]
    for each in (RESULT, error, foreign, b"junk", *cut_short):
        assert ring.verify_value(each, "id-1") is None
