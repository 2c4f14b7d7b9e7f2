"""The program of an executor.

``python -m nbqueue.executor KIND CAPACITY SOCKET PERMITS CONTROL``

Started by a supervisor, which passes the open file descriptors.
"""

from __future__ import annotations

import os
import socket
import sys

from nbqueue.executor import signals


def main(arguments: list[str]) -> None:
    """Serve the tasks of a supervisor until it ends this process."""
    kind, capacity = arguments[0], int(arguments[1])
    connection, permits, control = (int(word) for word in arguments[2:5])
    signals.install()

    import nbqueue.calls.keys.task_mark  # noqa: F401  (it reads the mark before a task can remove it)
    from nbqueue.executor.control import die_with_parent
    from nbqueue.runtime.gc_tuning import tune_garbage_collection
    from nbqueue.runtime.interpreter import add_current_folder

    if sys.platform == "linux":
        die_with_parent()
    for number in (connection, permits, control):
        os.set_inheritable(number, False)
    link = socket.socket(fileno=connection)
    os.register_at_fork(after_in_child=link.close)
    add_current_folder()
    from nbqueue.executor import child_processes
    from nbqueue.executor.output import capture

    capture.install()
    child_processes.install()
    tune_garbage_collection()
    if kind == "loop":
        import asyncio

        from nbqueue.executor.loop_executor import LoopExecutor

        async def serve() -> None:
            await LoopExecutor(link, control).serve()

        asyncio.run(serve())
    elif kind == "threads":
        from nbqueue.executor.thread_executor import ThreadExecutor

        ThreadExecutor(link, control, capacity).serve()
    else:
        from nbqueue.executor.sync_executor import SyncExecutor

        SyncExecutor(link, permits, control).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
