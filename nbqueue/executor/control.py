"""The thread that interrupts tasks, and ends a process without a supervisor."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from nbqueue.executor import pipe, signals
from nbqueue.executor.run_task import Interrupted
from nbqueue.runtime.process_memory import give_back

_AGAIN_AFTER: Final = (0.05, 0.2, 0.75)


def watch(control: int, interrupt: Callable[[int, int], None]) -> None:
    """Call ``interrupt(number, reason)`` in a thread for each record in the pipe.

    When the supervisor is gone the pipe ends, and this process ends at once: other workers recover
    its tasks when their leases have expired.
    """

    def listen() -> None:
        while True:
            record = os.read(control, pipe.INTERRUPT.size)
            if not record:
                os._exit(70)
            if record == pipe.GIVE_BACK:
                give_back()
            else:
                interrupt(*pipe.INTERRUPT.unpack(record))

    threading.Thread(target=listen, name="nbqueue-control", daemon=True).start()


def by_signal(interrupted: Interrupted) -> Callable[[int, int], None]:
    """Return a function that interrupts the main thread by a signal.

    It works even in a system call. A signal that comes just before one does not end it, and is
    sent again.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        error = interrupted.exception()
        if error is not None:
            raise error

    signals.handle(signal.SIGUSR1, handle)
    main = threading.main_thread().ident

    def interrupt(number: int, reason: int) -> None:
        interrupted.reason = reason
        interrupted.asked = number
        for seconds in _AGAIN_AFTER:
            if main is not None:
                signal.pthread_kill(main, signal.SIGUSR1)
            if interrupted.number != number:
                return  # it has not begun, or has ended
            threading.Event().wait(seconds)
            if interrupted.asked != number:
                return

    return interrupt


def die_with_parent() -> None:
    """Have Linux end this process when its supervisor is gone.

    The control thread ends it, too, but not while a task holds the interpreter's lock.
    """
    try:
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    except (ImportError, OSError, AttributeError):
        pass
