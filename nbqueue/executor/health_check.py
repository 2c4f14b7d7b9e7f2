"""Calls a worker's health check: ``python -m nbqueue.executor.health_check SERVICE``.

SERVICE is an open file with the code of what the worker's owner registered. Each line of the
standard input is one check: empty if the store answers, else why it does not. It is a process of
its own, as the function is the user's: it may hang or crash, and runs while executors are busy.
"""

from __future__ import annotations

import sys
import traceback

from nbqueue.executor import signals


def main(arguments: list[str]) -> None:
    signals.install()

    from nbqueue.calls.functions import load_function
    from nbqueue.errors import StoreUnreachable
    from nbqueue.executor.control import die_with_parent
    from nbqueue.runtime.interpreter import add_current_folder

    if sys.platform == "linux":
        die_with_parent()
    add_current_folder()
    with open(int(arguments[0]), "rb") as file:
        file.seek(0)
        check = load_function(file.read())().health_check
    for line in sys.stdin.buffer:
        why = line.decode("utf-8", "replace").strip()
        try:
            check(StoreUnreachable(why) if why else None)
        except Exception:
            # What a health check raises is no reason to end: the next one may do better.
            traceback.print_exc()


if __name__ == "__main__":
    main(sys.argv[1:])
