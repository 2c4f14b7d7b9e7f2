"""Tasks that every peer runs.

Imported by the peer's own workers, in its own environment.

mark   the task that does nothing: one write of 16 bytes (when, which) to a file, which costs 2 µs
       and records when it ran without touching Redis
spin   uses so many milliseconds of CPU time, whatever else the machine does
echo   gives back what it gets
"""

from __future__ import annotations

import os
import struct
import time
from typing import Any

_RECORD = struct.Struct("<dq")
_file = None


def mark(number: int, text: str = "") -> int:
    global _file
    if _file is None:
        _file = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(_file, _RECORD.pack(time.monotonic(), number))
    return number


def spin(milliseconds: float) -> float:
    end, turns = time.thread_time() + milliseconds / 1e3, 0
    while time.thread_time() < end:
        for number in range(100):
            turns += number & 7
    return milliseconds


def echo(value: Any) -> Any:
    return value


FUNCTIONS = {"mark": mark, "spin": spin, "echo": echo}
#: With a number next to it, about 100 bytes of arguments.
TEXT = "x" * 80


def marks(path: str) -> list[tuple[float, int]]:
    """Return the marks: the time of each run, and its task."""
    with open(path, "rb") as file:
        data = file.read()
    whole = len(data) // _RECORD.size * _RECORD.size
    return [_RECORD.unpack_from(data, at) for at in range(0, whole, _RECORD.size)]
