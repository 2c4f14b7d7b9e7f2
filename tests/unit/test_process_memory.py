"""Memory of large values is used again while they pass, and given back afterwards."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbqueue.executor import control, pipe
from nbqueue.executor.pipe import Frames
from nbqueue.runtime import process_memory
from nbqueue.worker.executors.memory_trimmer import MemoryTrimmer


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls to the C library."""
    calls: list[Any] = []
    library = SimpleNamespace(
        mallopt=lambda *words: calls.append(words), malloc_trim=lambda pad: calls.append("trim")
    )
    monkeypatch.setattr(process_memory, "_library", library)
    monkeypatch.setattr(process_memory, "_last_large", 0.0)
    return calls


def test_small_values_change_nothing(told: list[Any]) -> None:
    assert list(Frames().feed(pipe.frame(pipe.TASK, b"small"))) == [(pipe.TASK, b"small")]
    assert not process_memory.is_over(0)
    process_memory.give_back()
    assert told == []


def test_a_large_frame_has_memory_kept_until_it_is_over(told: list[Any]) -> None:
    for _ in range(2):
        assert list(Frames().feed(pipe.frame(pipe.TASK, b"y" * 100_000)[:70_000])) == []
        assert told == [(-1, 64 << 20), (-3, 32 << 20)]
    assert not process_memory.is_over(60)
    given: list[str] = []
    executor = SimpleNamespace(give_back_memory=lambda: given.append("executor"))
    service = MemoryTrimmer.__new__(MemoryTrimmer)
    service._pool = cast("Any", SimpleNamespace(executors=[executor]))
    service.run_once()
    assert given == []
    process_memory._last_large = time.monotonic() - 2
    service.run_once()
    service.run_once()
    assert (told[2:], given) == (["trim"], ["executor"])


def test_executors_are_told_by_their_control_pipe(told: list[Any]) -> None:
    process_memory.note_large()
    interrupted: list[tuple[int, int]] = []
    reading, writing = os.pipe()
    records = [pipe.GIVE_BACK, pipe.INTERRUPT.pack(7, pipe.CANCELLED)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control.threading, "Thread", _Here)
        patch.setattr(control.os, "_exit", _end)
        os.write(writing, b"".join(records))
        os.close(writing)
        with pytest.raises(EOFError):
            control.watch(reading, lambda *record: interrupted.append(record))
    os.close(reading)
    assert told[2:] == ["trim"]
    assert interrupted == [(7, pipe.CANCELLED)]


def _end(code: int) -> None:
    raise EOFError(code)


class _Here:
    """A thread that runs here and now."""

    def __init__(self, target: Any, **rest: Any) -> None:
        self.start = target
