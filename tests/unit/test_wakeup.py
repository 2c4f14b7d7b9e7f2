"""A `Wakeup` is readable after any number of wakes, until it is drained."""

from __future__ import annotations

import os
import select

from nbqueue.runtime.wakeup import Wakeup


def is_readable(wakeup: Wakeup) -> bool:
    return bool(select.select([wakeup], [], [], 0)[0])


def test_it_is_readable_until_it_is_drained() -> None:
    wakeup = Wakeup()
    assert not is_readable(wakeup)
    for _ in range(100_000):  # far more than the sockets hold
        wakeup.wake()
    assert is_readable(wakeup)
    wakeup.drain()
    assert not is_readable(wakeup)
    os.write(wakeup.signal_fileno(), b"\x0f")  # as Python writes the number of a signal
    assert is_readable(wakeup)
    wakeup.drain()
    wakeup.drain()
    assert not is_readable(wakeup)
    wakeup.close()


def test_wake_is_allowed_after_close() -> None:
    wakeup = Wakeup()
    wakeup.close()
    wakeup.wake()
