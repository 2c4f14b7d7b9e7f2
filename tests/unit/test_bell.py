"""What wakes a thread out of a selector: once, however often it is rung."""

from __future__ import annotations

import os
import select

from nbqueue.runtime.wakeup import Wakeup


def rings(bell: Wakeup) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_it_rings_until_it_is_silenced() -> None:
    bell = Wakeup()
    assert not rings(bell)
    for _ in range(100_000):  # far more than the sockets hold
        bell.ring()
    assert rings(bell)
    bell.silence()
    assert not rings(bell)
    os.write(bell.rope(), b"\x0f")  # as Python writes the number of a signal
    assert rings(bell)
    bell.silence()
    bell.silence()
    assert not rings(bell)
    bell.close()


def test_after_its_end_it_may_still_be_rung() -> None:
    bell = Wakeup()
    bell.close()
    bell.ring()
