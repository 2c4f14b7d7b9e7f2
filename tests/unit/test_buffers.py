"""Bodies in chunks behave like contiguous bytes, wherever they are split."""

from __future__ import annotations

import itertools
import socket
import threading
from collections import deque
from hashlib import sha256
from typing import Any

import numpy
import pytest

from nbqueue.calls import functions, payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame, Frames
from nbqueue.runtime.buffers import (
    IN_PLACE,
    ChunkedBytes,
    Gathering,
    ReceiveBuffer,
    cut,
    parts_of,
    send_pieces,
)
from nbqueue.transport import resp
from nbqueue.wire.messages import TaskMessage, read_apart, with_completed_at

LARGE = bytes(range(256)) * 400
KEYS = Keyring([b"k" * 32])


class Custom:
    def __init__(self, data: bytes) -> None:
        self.data = data


def cut_at(data: bytes, *at: int) -> list[bytes]:
    edges = [0, *at, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_large_arguments_are_the_same_in_pieces_and_in_one() -> None:
    args = (numpy.arange(20_000.0), 3)
    apart = functions.dump_call(args, {})
    whole = functions.dump_arguments(args, {})
    assert isinstance(apart, ChunkedBytes)
    assert bytes(apart) == whole


def test_a_large_payload_is_read_apart_from_its_message() -> None:
    whole = functions.dump_arguments((numpy.arange(20_000.0), 3), {})
    limits = payloads.Timeouts(1500, 0)
    unsigned = payloads.pack_call(b"f" * 16, whole, 1, limits)
    message = TaskMessage(id="id", type="fit", queue="q", retry=3, retention=60)
    message.payload = KEYS.sign_call(unsigned, "id", "q", "fit")

    read = read_apart(message.SerializeToString(deterministic=True))
    assert read is not None
    found, payload = read
    assert payload == message.payload
    assert payload is not None
    call = KEYS.verify_call(payload, "id", "q", "fit")
    assert bytes(call.arguments) == whole
    assert call.timeouts == limits
    message.ClearField("payload")
    assert found == message


def test_a_large_message_gets_its_time_of_completion() -> None:
    msg = TaskMessage(id="id", payload=LARGE).SerializeToString()
    assert TaskMessage.FromString(bytes(with_completed_at(msg, 77))).completed_at == 77


@pytest.mark.parametrize(
    ("what", "msg", "message"),
    [
        ("no protobuf", b"\xff" * 70_000, None),
        ("cut short", TaskMessage(payload=LARGE).SerializeToString()[:-1], None),
        ("ends in a number", TaskMessage(payload=LARGE).SerializeToString() + b"\x28\x80", None),
        (
            "two payloads, of which the last counts",
            TaskMessage(payload=LARGE).SerializeToString() + b"\x12\x01x",
            TaskMessage(payload=b"x"),
        ),
        ("no payload", TaskMessage(type="t" * 70_000).SerializeToString(), "t" * 70_000),
    ],
)
def test_odd_messages_are_read_as_ever(what: str, msg: bytes, message: Any) -> None:
    expected = TaskMessage(type=message) if isinstance(message, str) else message
    assert read_apart(msg) == (None if message is None else (expected, None)), what


@pytest.mark.parametrize(
    "value",
    [numpy.arange(20_000.0), LARGE, Custom(LARGE), [LARGE], {"a": 1}, 5, b"small"],
    ids=["array", "bytes", "object", "list", "dict", "number", "small"],
)
def test_what_a_task_returned_is_the_same_in_pieces(value: Any) -> None:
    body = functions.dump_returned(value)
    assert bytes(body) == functions.dump_value(value)
    signed = KEYS.sign_result(payloads.pack_result(payloads.VALUE, bytes(body)), "id")
    head = KEYS.sign_result_apart(payloads.result_head(payloads.VALUE), parts_of(body), "id")
    assert head + bytes(body) == signed
    assert KEYS.verify_result(signed, "id").body == bytes(body)


def test_an_array_comes_back_writable() -> None:
    body = functions.dump_returned(numpy.zeros(20_000))
    functions.load_value(memoryview(bytes(body)))[0] = 1.0


def test_frames_of_all_sizes_come_whole_however_they_are_cut() -> None:
    small = DoneFrame(1, pipe.VALUE, 5, 0, -1.0, True, "", b"r")
    large = small._replace(number=2, body=LARGE, error_text="bäd")
    cut_up = large._replace(body=ChunkedBytes(LARGE[:9], LARGE[9:]))
    shown = cut_up._replace(preview=b"p" * 999, error_text="")
    sent = (small, large, small, cut_up, shown, large, small._replace(preview=b"p"), small)
    data = b"".join(part for done in sent for part in pipe.done_parts(done))
    near, far = socket.socketpair()

    def send() -> None:
        for part in cut_at(data, 3, 99, 5000):
            far.sendall(part)
        far.close()

    sender = threading.Thread(target=send)
    sender.start()
    frames, found = Frames(), []
    while (came := frames.receive(near)) is not None:
        found += [pipe.unpack_done(body) for kind, body in came if kind == pipe.DONE]
    sender.join()
    near.close()
    digested = large._replace(digest=sha256(LARGE).digest())
    assert found == [
        *(small, large, small, digested, shown._replace(body=LARGE, digest=digested.digest)),
        *(large, small._replace(preview=b"p"), small),
    ]


def test_what_a_socket_does_not_take_waits() -> None:
    near, far = socket.socketpair()
    far.setblocking(False)
    pieces = deque([LARGE, memoryview(LARGE), bytearray(LARGE)] * 20)
    received = bytearray()
    with pytest.raises(BlockingIOError):
        send_pieces(far, pieces)
    while pieces:
        received += near.recv(1 << 20)
        try:
            send_pieces(far, pieces)
        except BlockingIOError:
            continue
    far.close()
    while data := near.recv(1 << 20):
        received += data
    near.close()
    assert received == LARGE * 60


REPLIES = b"$4\r\ndone\r\n:1\r\n+OK\r\n$-1\r\n$0\r\n\r\n"
HEAD = b"$%d\r\n" % len(LARGE)


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (HEAD + LARGE[:10], 0),
        (REPLIES + HEAD, len(REPLIES)),
        (HEAD + LARGE + b"\r", 0),
        (HEAD + LARGE + b"\r\n", None),
        (HEAD[:-1], None),
        (REPLIES, None),
        (REPLIES[:7], None),
        (b"*1\r\n" + HEAD + LARGE[:10], None),
        (b"-ERR no\r\n" + HEAD, None),
    ],
)
def test_a_large_reply_is_found_where_it_begins(data: bytes, at: int | None) -> None:
    found = resp.large_reply(data)
    if at is None:
        assert found is None
        return
    assert found is not None
    where, incoming = found
    assert where == at
    rest = (LARGE + b"\r\n")[len(data) - at - len(HEAD) :]
    incoming.room[:] = rest
    assert incoming.came(len(rest))
    assert incoming.whole(resp.END) == LARGE


def test_bytes_are_put_together_without_a_copy() -> None:
    incoming = ReceiveBuffer(5, b"ab")
    incoming.room[:2] = b"cd"
    assert not incoming.came(2)
    incoming.room[:] = b"e"
    assert incoming.came(1)
    assert incoming.whole(1) == b"abcd"


@pytest.mark.parametrize("most", [1, 3, 7, 10, 11])
def test_bodies_are_cut_wherever_their_parts_end(most: int) -> None:
    data = b"0123456789"
    bodies = [bytes(each) for each in cut([data[:4], b"", data[4:5], data[5:]], most)]
    assert bodies == [data[at : at + most] for at in range(0, 10, most)]
    assert cut([], most) == []


def gathered(*pieces: object) -> bytes | None:
    gathering = Gathering(b"head", [3, 3, 2], 2)
    for slot, piece in zip(gathering.slots, pieces, strict=True):
        assert not gathering.is_over
        slot.take(piece)
    assert gathering.is_over
    return gathering.whole()


def test_pieces_are_gathered_in_one_place() -> None:
    assert gathered(b"abc", b"def", b"gh") == b"headabcdefgh"
    for wrong in (None, b"de", b"defg", ValueError()):
        assert gathered(b"abc", wrong, b"gh") is None


def test_a_piece_is_received_where_it_belongs() -> None:
    gathering = Gathering(b"head", [3, 3], 2)
    first, second = gathering.slots
    assert first.incoming(6, b"ab") is None
    for slot, piece in ((first, b"abc"), (second, b"def")):
        assert slot.incoming(5, piece[:1]) is slot
        slot.room[:4] = piece[1:] + b"\r\n"
        assert slot.came(4)
        slot.take(slot.whole(2))
    assert first.whole(2) is IN_PLACE
    assert gathering.whole() == b"headabcdef"


def test_a_piece_that_was_cut_off_is_received_anew() -> None:
    gathering = Gathering(b"head", [3, 3], 2)
    one, other = gathering.slots
    assert one.incoming(5, b"ab") is one  # and then the connection was lost
    assert one.incoming(5, b"a") is one
    assert len(one.room) == 4
    one.room[:] = b"bc\r\n"
    assert one.came(4)
    one.take(one.whole())
    other.take(b"def")
    assert gathering.whole() == b"headabcdef"
