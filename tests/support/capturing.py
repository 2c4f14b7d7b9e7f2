"""Run tasks in this process and collect their output."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable
from typing import Any

from nbqueue.executor import pipe
from nbqueue.executor.output.task_reports import Reports
from nbqueue.executor.pipe import Frames, Output, TaskFrame


def frame(number: int) -> TaskFrame:
    return TaskFrame(number, bytes(16), True, 1, 0, 0, 0.0, "i", "q", "fit", b"", b"")


class PutOut:
    """The output of a task."""

    def __init__(self, data: bytes) -> None:
        self.outputs: list[Output] = []
        self.progress: Any = None
        for kind, body in Frames().feed(data):
            assert kind == pipe.REPORT
            _, what, said = pipe.unpack_report(body)
            if what == pipe.OUTPUT_REPORT:
                self.outputs.append(pipe.unpack_output(said))
            elif what == pipe.PROGRESS_REPORT:
                self.progress = json.loads(said)

    def text(self, *kinds: int) -> str:
        wanted = kinds or (pipe.STDOUT, pipe.STDERR)
        return b"".join(each.data for each in self.outputs if each.kind in wanted).decode()

    @property
    def displays(self) -> list[Any]:
        return [json.loads(each.data) for each in self.outputs if each.kind == pipe.DISPLAY]

    @property
    def bars(self) -> list[tuple[str, float, float | None]]:
        bars = self.progress["bars"] if self.progress else []
        return [(bar["desc"], bar["n"], bar["total"]) for bar in bars]


def run_task(fn: Callable[[], Any], number: int = 1) -> PutOut:
    """Run ``fn`` as a task."""
    sent: list[bytes] = []
    reports = Reports(sent.append)

    def run() -> None:
        reports.begin(frame(number))
        try:
            fn()
        finally:
            sent.append(reports.end(number, keep=True))

    contextvars.Context().run(run)
    return PutOut(b"".join(sent))
