"""The program of a started worker: ``python -m nbqueue.worker ANSWER``.

Reads its settings, as JSON, from its standard input; writes ``ready`` and its id, or why it cannot
start, to the open file ANSWER.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from nbqueue.worker.executors.spawn import prepared


def main(answer: int) -> int:
    settings = json.loads(sys.stdin.buffer.read())
    settings["service"] = base64.b64decode(settings["service"])
    level = settings["log_level"].upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    least = (settings["autoscale"] or [settings["concurrency"]])[0]
    with prepared(settings["executor"], least):
        # Loaded only now: it takes as long as the first executors take to start.
        module = importlib.import_module("nbqueue.worker.lifecycle.serve")
        serve: Callable[[int, dict[str, Any]], int] = module.serve
        return serve(answer, settings)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
