"""The program of a worker that `Worker.start` starts: ``python -m nbqueue.worker ANSWER``.

Reads its settings, as JSON, from its standard input; writes ``ready`` and its id, or what went
wrong, to the open file ANSWER.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from typing import Any


def main(answer: int) -> int:
    settings = json.loads(sys.stdin.buffer.read())
    settings["service"] = base64.b64decode(settings["service"])
    level = settings["log_level"].upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    from nbqueue.worker.executors.spawn import prepared

    with prepared(settings["executor"], settings["concurrency"]):
        return _serve(answer, settings)


def _serve(answer: int, settings: dict[str, Any]) -> int:
    from nbqueue.errors import NbqueueError
    from nbqueue.worker.settings import WorkerSettings
    from nbqueue.worker.supervisor import Supervisor

    try:
        supervisor = Supervisor(WorkerSettings(**settings))
        supervisor.on_ready = lambda: _say(answer, f"ready {supervisor.worker_id}")
        return supervisor.run()
    except NbqueueError as error:
        _say(answer, str(error))
        return 1
    except Exception as error:
        _say(answer, f"{type(error).__name__}: {error}")
        raise


def _say(answer: int, text: str) -> None:
    try:
        os.write(answer, text.encode("utf-8", "replace")[:4096])
        os.close(answer)
    except OSError:
        pass  # whoever asked is gone, or has its answer


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
