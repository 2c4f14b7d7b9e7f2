"""Bodies that lie in pieces: the same bytes as those in one place, wherever they are cut."""

from __future__ import annotations

import itertools
import socket
import threading
from collections import deque
from typing import Any

import numpy
import pytest

from nbqueue.broker import resp
from nbqueue.calls import functions, payloads
from nbqueue.calls.signing import Keyring
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame, Frames
from nbqueue.pieces import Incoming, Pieces, parts_of, send_all, send_pieces
from nbqueue.wire.messages import TaskMessage, read_apart, with_completed_at, write_apart

LARGE = bytes(range(256)) * 400
KEYS = Keyring([b"k" * 32])


class Custom:
    def __init__(self, data: bytes) -> None:
        self.data = data


def cut(data: bytes, *at: int) -> list[bytes]:
    edges = [0, *at, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_a_large_call_is_the_same_message_in_pieces_and_in_one() -> None:
    args = (numpy.arange(20_000.0), 3)
    apart = functions.dump_call(args, {})
    whole = functions.dump_arguments(args, {})
    assert isinstance(apart, Pieces)
    assert bytes(apart) == whole
    limits = payloads.Limits(1500, 0)
    unsigned = payloads.pack_call(b"f" * 16, whole, 1, limits)
    message = TaskMessage(id="id", type="fit", queue="q", retry=3, retention=60)
    head = payloads.call_head(b"f" * 16, 1, limits)
    signed = KEYS.call_signer(head, "q", "fit")("id", apart.parts)
    msg = bytes(write_apart(message, Pieces(signed, *apart.parts)))
    message.payload = KEYS.sign_call(unsigned, "id", "q", "fit")
    assert msg == message.SerializeToString(deterministic=True)

    read = read_apart(msg)
    assert read is not None
    found, payload = read
    assert payload == message.payload
    assert payload is not None
    call = KEYS.verify_call(payload, "id", "q", "fit")
    assert bytes(call.arguments) == whole
    assert call.limits == limits
    message.ClearField("payload")
    assert found == message


def test_a_message_without_a_type_is_written_and_read_too() -> None:
    message = TaskMessage(id="id")
    msg = bytes(write_apart(message, Pieces(LARGE)))
    assert TaskMessage.FromString(msg) == TaskMessage(id="id", payload=LARGE)
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
    data = b"".join(map(pipe.pack_done, (small, large, small, large, large, small)))
    near, far = socket.socketpair()
    sender = threading.Thread(target=lambda: (send_all(far, cut(data, 3, 99, 5000)), far.close()))
    sender.start()
    frames, found = Frames(), []
    while (came := frames.receive(near)) is not None:
        found += [pipe.unpack_done(body) for kind, body in came if kind == pipe.DONE]
    sender.join()
    near.close()
    assert found == [small, large, small, large, large, small]


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
    incoming = Incoming(5, b"ab")
    incoming.room[:2] = b"cd"
    assert not incoming.came(2)
    incoming.room[:] = b"e"
    assert incoming.came(1)
    assert incoming.whole(1) == b"abcd"
