"""Run a worker that `Worker.start` started, and report to it."""

from __future__ import annotations

import os
from typing import Any

from nbqueue.errors import NbqueueError
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.wiring import build_worker


def serve(answer: int, settings: dict[str, Any]) -> int:
    """Run a worker with these settings; return its exit code.

    Writes ``ready`` and the worker's id to the open file ``answer``, or why it cannot start.
    """

    def on_ready(worker_id: str) -> None:
        _report(answer, f"ready {worker_id}")

    try:
        return build_worker(WorkerSettings(**settings), on_ready=on_ready).run()
    except NbqueueError as error:
        _report(answer, str(error))
        return 1
    except Exception as error:
        _report(answer, f"{type(error).__name__}: {error}")
        raise


def _report(answer: int, text: str) -> None:
    try:
        os.write(answer, text.encode("utf-8", "replace")[:4096])
        os.close(answer)
    except OSError:
        pass  # the starting process has ended, or has its answer already
