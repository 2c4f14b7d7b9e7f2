"""Calls that type checkers accept, and calls that they must refuse. Checked by ``make lint``.

It is never run. A line with ``type: ignore`` has an error, and the check fails if it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from typing_extensions import assert_type

import nbqueue
from nbqueue import TaskFuture, TaskGroup

q = nbqueue.connect()


def fit(lr: float, depth: int = 3) -> str:
    return f"{lr} {depth}"


def square(x: int) -> float:
    return x * x


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def weighted(values: list[float], weight: int) -> bytes:
    return bytes(weight * len(values))


def six(a: int, b: str, c: bytes, d: float, e: bool, f: list[int]) -> int:
    return a


def seven(a: int, b: int, c: int, d: int, e: int, f: int, g: int) -> str:
    return ""


async def fetch(url: str, *, retries: int = 1) -> bytes:
    return b""


class Model:
    def __init__(self, depth: int) -> None: ...

    def score(self, x: float) -> float:
        return x


one = q.submit(square, 2)
many = q.map(square, [1, 2])

# --- Results have the type of the function's result ----------------------------------------------

assert_type(one, TaskFuture[float])
assert_type(one.result(), float)
assert_type(many, TaskGroup[float])
assert_type(many.results(), list[float])
assert_type(many.results(return_exceptions=True), list[float | Exception])
assert_type(many[0], TaskFuture[float])
assert_type(next(iter(many)), float)
assert_type(next(iter(many.as_completed())), TaskFuture[float])
assert_type(q.submit(fit, 0.1), TaskFuture[str])
assert_type(q.submit(fit, 1, 2), TaskFuture[str])
assert_type(q.submit(fit, 0.1, depth=2), TaskFuture[str])
assert_type(q.submit(fit, lr=0.1), TaskFuture[str])
assert_type(q.submit(fetch, "a"), TaskFuture[bytes])
assert_type(q.submit(fetch, "a", retries=2), TaskFuture[bytes])
assert_type(q.submit(seven, 1, 2, 3, 4, 5, 6, 7), TaskFuture[str])
assert_type(q.submit(sum, [1, 2]), "TaskFuture[int]")
assert_type(q.submit(sorted, [2, 1]), TaskFuture[list[int]])
assert_type(q.submit(Model, 3), TaskFuture[Model])
assert_type(q.submit(Model(3).score, 0.5), TaskFuture[float])
assert_type(q.submit(lambda x: x + 1, 2), TaskFuture[int])
assert_type(q.map(fit, [0.1, 0.2]), TaskGroup[str])
assert_type(q.map(fit, [0.1, 0.2], [1, 2], timeout="1m"), TaskGroup[str])
assert_type(q.map(fetch, ["a", "b"]), TaskGroup[bytes])
assert_type(q.options(retry=3, queue="slow").submit(square, 2), TaskFuture[float])
assert_type(q.options(timeout="10m").map(square, range(3)), TaskGroup[float])


async def in_a_coroutine() -> None:
    assert_type(await one, float)
    assert_type(await many, list[float])


# --- A future stands in place of a value, a group in place of a list -----------------------------

assert_type(q.submit(fit, one), TaskFuture[str])
assert_type(q.submit(fit, one, 2), TaskFuture[str])
assert_type(q.submit(mean, many), TaskFuture[float])
assert_type(q.submit(weighted, many, 2), TaskFuture[bytes])
assert_type(q.map(fit, many), TaskGroup[str])
assert_type(q.map(fit, [one, one]), TaskGroup[str])
text = q.submit(fit, 0.1)
assert_type(q.submit(six, 1, text, b"", one, True, [1]), TaskFuture[int])

# --- Decorated functions -------------------------------------------------------------------------


@q.task(queue="gpu", retry=3)
def train(lr: float) -> str:
    return str(lr)


@q.task
async def load(url: str) -> bytes:
    return b""


assert_type(train(0.1), str)
assert_type(train.submit(0.1), TaskFuture[str])
assert_type(train.map([0.1]), TaskGroup[str])
assert_type(load.submit("a"), TaskFuture[bytes])
assert_type(load.map(["a"]), TaskGroup[bytes])
assert_type(q.submit(train, 0.1), TaskFuture[str])
assert_type(q.submit(load, "a"), TaskFuture[bytes])


def use(executor: Executor) -> None: ...


use(q)

# --- Errors --------------------------------------------------------------------------------------

q.submit(fit)  # type: ignore[call-overload]
q.submit(fit, "much")  # type: ignore[arg-type]
q.submit(fit, 0.1, "deep")  # type: ignore[arg-type]
q.submit(fit, 0.1, 2, 3)  # type: ignore[arg-type]
q.submit(fit, 0.1, dept=2)  # type: ignore[call-arg, arg-type]
q.submit(fit, text)  # type: ignore[arg-type]
q.submit(mean, q.map(fit, [0.1]))  # type: ignore[arg-type]
q.submit(fetch, 3)  # type: ignore[arg-type]
q.submit(seven, 1, 2, 3, 4, 5, 6, "7")  # type: ignore[call-overload]
q.map(fit, ["much"])  # type: ignore[arg-type]
q.map(fit, [0.1], ["deep"])  # type: ignore[arg-type]
q.map(square, [1], [2])  # type: ignore[arg-type]
train.submit("much")  # type: ignore[arg-type]
load.submit(3)  # type: ignore[call-overload]
q.options(retires=3)  # type: ignore[call-arg]
q.options(retry="3")  # type: ignore[arg-type]
q.options(on_conflict="raises")  # type: ignore[arg-type]
q.options(retry=3).options(queu="a")  # type: ignore[call-arg]
q.task(retires=3)  # type: ignore[call-overload]
train.options(retires=3)  # type: ignore[call-arg]
q.enqueue("email", {}, retires=3)  # type: ignore[call-arg]
q.schedule(fit, "@daily", tx="Europe/Paris")  # type: ignore[call-arg]
q.schedule_message("email", {}, "@daily", tx="Europe/Paris")  # type: ignore[call-arg]
q.retry(stat="archived")  # type: ignore[call-arg]
q.inspector.delete(queue="a", stat="archived")  # type: ignore[call-arg]
q.timeline(by="type")  # type: ignore[arg-type]
q.plot.latency(sinc="1h")  # type: ignore[call-arg]
