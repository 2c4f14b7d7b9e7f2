"""Encode and decode protobuf by hand, independently of the generated code."""

from __future__ import annotations

from typing import Any

TASK_FIELDS: dict[int, tuple[str, str]] = {
    1: ("type", "string"),
    2: ("payload", "bytes"),
    3: ("id", "string"),
    4: ("queue", "string"),
    5: ("retry", "int"),
    6: ("retried", "int"),
    7: ("error_msg", "string"),
    8: ("timeout", "int"),
    9: ("deadline", "int"),
    10: ("unique_key", "string"),
    11: ("last_failed_at", "int"),
    12: ("retention", "int"),
    13: ("completed_at", "int"),
    14: ("group_key", "string"),
    15: ("headers", "map"),
}
_NUMBERS = {name: number for number, (name, _) in TASK_FIELDS.items()}


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers take ten bytes
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def encode_task(fields: dict[str, Any]) -> bytes:
    """Encode a TaskMessage like Go: by number, without zero or empty fields."""
    out = b""
    for name in sorted(fields, key=_NUMBERS.__getitem__):
        number, value = _NUMBERS[name], fields[name]
        kind = TASK_FIELDS[number][1]
        if kind == "map":
            for key, text in value.items():
                entry = bytes_field(1, key.encode()) + bytes_field(2, text.encode())
                out += bytes_field(number, entry)
        elif value:
            if kind == "int":
                out += number_field(number, value)
            else:
                out += bytes_field(number, value.encode() if kind == "string" else value)
    return out


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value - (1 << 64) if value >= 1 << 63 else value), at


def decode(data: bytes) -> list[tuple[int, int | bytes]]:
    """Yield the number and the value of each field, in order.

    A value is an int (wire type 0) or bytes (wire type 2).
    """
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value: int | bytes
        value, at = _read_varint(data, at)
        if tag & 7 == 2:
            assert at + value <= len(data), "cut short"
            value, at = data[at : at + value], at + value
        else:
            assert tag & 7 == 0, f"wire type {tag & 7} occurs in no message of Asynq"
        found.append((tag >> 3, value))
    return found


def decode_task(data: bytes) -> dict[str, Any]:
    """Return the set fields of a TaskMessage. The last of repeated fields counts."""
    found: dict[str, Any] = {}
    for number, value in decode(data):
        name, kind = TASK_FIELDS[number]  # fails for a field that Asynq does not know
        assert isinstance(value, int) == (kind == "int"), name
        if kind == "map":
            assert isinstance(value, bytes)
            entry = dict(decode(value))
            found.setdefault(name, {})[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
        else:
            found[name] = _text(value) if kind == "string" else value
    return {name: value for name, value in found.items() if value}


SERVER_FIELDS: dict[int, tuple[str, str]] = {
    1: ("host", "string"),
    2: ("pid", "int"),
    3: ("server_id", "string"),
    4: ("concurrency", "int"),
    5: ("queues", "numbers"),
    6: ("strict_priority", "int"),
    7: ("status", "string"),
    8: ("start_time", "time"),
    9: ("active_worker_count", "int"),
}
WORKER_FIELDS: dict[int, tuple[str, str]] = {
    1: ("host", "string"),
    2: ("pid", "int"),
    3: ("server_id", "string"),
    4: ("task_id", "string"),
    5: ("task_type", "string"),
    6: ("task_payload", "bytes"),
    7: ("queue", "string"),
    8: ("start_time", "time"),
    9: ("deadline", "time"),
}


def decode_server(data: bytes) -> dict[str, Any]:
    """Return the set fields of a ServerInfo; times in Unix seconds."""
    return _decode_record(data, SERVER_FIELDS)


def decode_worker(data: bytes) -> dict[str, Any]:
    """Return the set fields of a WorkerInfo; times in Unix seconds."""
    return _decode_record(data, WORKER_FIELDS)


def _decode_record(data: bytes, fields: dict[int, tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in decode(data):
        name, kind = fields[number]  # fails for a field that Asynq does not know
        assert isinstance(value, int) == (kind == "int"), name
        if kind in ("int", "bytes"):
            found[name] = value
        elif kind == "string":
            found[name] = _text(value)
        else:
            assert isinstance(value, bytes)
            parts = dict(decode(value))
            if kind == "time":
                seconds, nanos = parts.get(1, 0), parts.get(2, 0)
                assert isinstance(seconds, int)
                assert isinstance(nanos, int)
                found[name] = seconds + nanos / 1e9
            else:
                found.setdefault(name, {})[_text(parts[1])] = parts.get(2, 0)
    return {name: value for name, value in found.items() if value}


def _text(value: int | bytes) -> str:
    assert isinstance(value, bytes)
    return value.decode()
