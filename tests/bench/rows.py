"""The rows of `make bench`: their names, functions and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import drain
import fairness
import floor
import idle
import large
import looking
import mapping
import memory
import roundtrip
import scale
import start
import submit
from bench import Bench


@dataclass(frozen=True)
class Goal:
    """A figure is to be at least, or at most, this."""

    least: float | None = None
    most: float | None = None

    def is_met(self, figure: float) -> bool:
        return (self.least is None or figure >= self.least) and (
            self.most is None or figure <= self.most
        )

    def __str__(self) -> str:
        return f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,g}"


@dataclass(frozen=True)
class Row:
    """A row: one function that returns figures by their names, which end with their unit."""

    name: str
    title: str
    measure: Callable[[Bench], dict[str, float]]
    goals: Mapping[str, Goal] = field(default_factory=dict)


def least(figure: float) -> Goal:
    return Goal(least=figure)


def most(figure: float) -> Goal:
    return Goal(most=figure)


ROWS = (
    Row("floor", "what this machine can do now", floor.floor),
    Row("A1", "submit, one call each", submit.one_by_one, {"tasks/s": least(8_000)}),
    Row("A2", "submit in bulk, with map", submit.mapped, {"tasks/s": least(60_000)}),
    Row("B", "drain 10,000 waiting tasks", drain.waiting, {"tasks/s": least(15_000)}),
    Row(
        "C",
        "submit to result, worker idle",
        roundtrip.to_result,
        {"p50 ms": most(1.0), "p95 ms": most(2.0)},
    ),
    Row(
        "D",
        "submit to first line, worker idle",
        roundtrip.to_first_line,
        {"p50 ms": most(0.6), "from Go, p50 ms": most(20)},
    ),
    Row("E", "map of 1,000 tasks of 1 ms CPU (ideal 0.5 s)", mapping.short, {"s": most(0.62)}),
    Row("F", "map of 200 tasks of 20 ms CPU (ideal 2.0 s)", mapping.longer, {"s": most(2.08)}),
    Row(
        "G",
        "an array there and back",
        large.arrays,
        {"1 MB, p50 ms": most(5), "10 MB, p50 ms": most(25)},
    ),
    Row("H", "nbqueue worker to the first task done", start.cold, {"s": most(0.4)}),
    Row("I", "memory of a worker with 2 executors", memory.of_worker, {"MB": most(80)}),
    Row(
        "J",
        "an idle worker",
        idle.idle,
        {"commands/s": most(5), "% of a core": most(0.3)},
    ),
    Row("K", "drain with many more waiting", drain.backlog, {"ratio to 10,000": least(0.95)}),
    Row("L", "store memory of a waiting task", memory.of_tasks, {"ratio to Asynq's": most(1)}),
    Row(
        "M",
        "B with the append-only file, everysec",
        drain.with_append_only_file,
        {"tasks/s": least(12_000)},
    ),
    Row(
        "N",
        "what a notebook sees",
        looking.looks,
        {
            "import, ms": most(150),
            "tasks() of 100,000, s": most(3),
            "panel on 1,000,000, s": most(1),
        },
    ),
    Row("fairness", "5% tasks of 1 s, 95% of 1 ms, 4 executors", fairness.mixed),
    Row("workers", "workers of one queue, 2 executors each", scale.workers),
    Row("queues", "queues of one worker", scale.queues),
    Row("clients", "clients that wait on a busy queue", scale.clients),
    Row("sleeps", "10,000 × asyncio.sleep(0.1), 1,000 at once", scale.sleeps, {"s": most(1.5)}),
)
BY_NAME = {row.name: row for row in ROWS}
