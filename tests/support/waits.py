"""Wait for a condition with a deadline, or let time pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


def wait_until(fact: Callable[[], Any], seconds: float = 40.0, what: str = "") -> Any:
    """Return the result of ``fact`` once it is true."""
    limit = time.monotonic() + seconds
    while True:
        found = fact()
        if found:
            return found
        assert time.monotonic() < limit, f"waited {seconds} s in vain {what}"
        threading.Event().wait(0.005)


def let_time_pass(seconds: float) -> None:
    """Wait for time alone: to measure what happens meanwhile, or that nothing does.

    A test that waits for something to happen uses `wait_until`.
    """
    threading.Event().wait(seconds)
