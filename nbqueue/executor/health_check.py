"""The program of a health check: ``python -m nbqueue.executor.health_check SERVICE``.

SERVICE is an open file with the code that the worker's owner registered. Each line of the standard
input is one check: empty if the store answers, else the reason why it does not. The check is user
code, which may hang or crash, and it must run while executors are busy: so it has a process of its
own.
"""

from __future__ import annotations

import sys
import traceback

from nbqueue.executor import signals


def main(arguments: list[str]) -> None:
    """Call the health check for each line of the standard input."""
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
            # An error of one check is no reason to end: the next may succeed.
            traceback.print_exc()


if __name__ == "__main__":
    main(sys.argv[1:])
