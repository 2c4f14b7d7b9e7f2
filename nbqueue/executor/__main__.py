"""The program of an executor: ``python -m nbqueue.executor KIND CAPACITY SOCKET PERMITS CONTROL``.

Started by a supervisor, which passes the open file descriptors.
"""

from __future__ import annotations

import os
import signal
import socket
import sys


def main(arguments: list[str]) -> None:
    kind, capacity = arguments[0], int(arguments[1])
    connection, permits, control = (int(word) for word in arguments[2:5])
    # Ctrl-C in a terminal reaches the whole group; it is the supervisor that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGTSTP"):
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)

    from nbqueue.executor.control import die_with_parent
    from nbqueue.garbage import tune_garbage_collection

    if sys.platform == "linux":
        die_with_parent()
    for number in (connection, permits, control):
        os.set_inheritable(number, False)
    link = socket.socket(fileno=connection)
    os.register_at_fork(after_in_child=link.close)
    # A notebook's directory is importable there, and so here.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    from nbqueue.executor import capture, children

    capture.install()
    children.install()
    tune_garbage_collection()
    if kind == "loop":
        import asyncio

        from nbqueue.executor.loop import LoopExecutor

        async def serve() -> None:
            await LoopExecutor(link, control).serve()

        asyncio.run(serve())
    elif kind == "threads":
        from nbqueue.executor.threads import ThreadExecutor

        ThreadExecutor(link, control, capacity).serve()
    else:
        from nbqueue.executor.sync import SyncExecutor

        SyncExecutor(link, permits, control).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
