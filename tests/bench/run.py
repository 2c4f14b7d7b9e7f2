"""How fast is nbqueue here? Prints medians of several rounds, beside this machine's own floor.

    python tests/bench/run.py [--rounds N] [--tasks N] [--json FILE] [--url URL]

Everything runs at the defaults that a user gets: calls are signed, leased, announced and recorded,
results are kept for a day, executors are processes, the store writes its append-only file. No-op
tasks with about 100 bytes of arguments. Rows:

A1     submit, one call each
A2     submit in bulk, with map
B      drain waiting tasks, from the start of the first to the acknowledgement of the last
C      round trip: submit to result, worker idle
D      submit to the first line of the function, worker idle
floor  a script call for each task, one round trip each, with this connection
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbqueue
from nbqueue.store.connection import connect as connect_store
from nbqueue.store.embedded import stop_server

TRIALS = 200
TEXT = "x" * 80


def noop(number: int, text: str) -> None:
    return None


def first_line(text: str) -> int:
    return time.monotonic_ns()


def submit_each(q: nbqueue.Client, tasks: int) -> float:
    started = time.perf_counter()
    for number in range(tasks):
        q.submit(noop, number, TEXT)
    return tasks / (time.perf_counter() - started)


def submit_map(q: nbqueue.Client, tasks: int) -> float:
    started = time.perf_counter()
    q.map(noop, range(tasks), [TEXT] * tasks)
    return tasks / (time.perf_counter() - started)


def drain(q: nbqueue.Client, url: str, tasks: int) -> float:
    q.map(noop, range(tasks), [TEXT] * tasks)
    redis = connect_store(url).redis
    with nbqueue.Worker(url, concurrency=2, log="/dev/null"):
        while redis.zcard("asynq:{default}:completed") < tasks:
            time.sleep(0.01)
    first = redis.xrange("nbqueue:{default}:attempts", count=1)[0][1]
    last = redis.xrevrange("nbqueue:{default}:events", count=1)[0][1]
    return tasks / ((int(last[b"at"]) - int(first[b"started_at"])) / 1000)


def round_trips(q: nbqueue.Client, url: str) -> tuple[list[float], list[float]]:
    """(milliseconds to the result, milliseconds to the first line), each sorted"""
    to_result, to_start = [], []
    with nbqueue.Worker(url, concurrency=2, log="/dev/null"):
        for _ in range(20):
            q.submit(noop, 0, TEXT).result(10)
        for number in range(TRIALS):
            time.sleep(0.002)
            began = time.perf_counter()
            q.submit(noop, number, TEXT).result(10)
            to_result.append((time.perf_counter() - began) * 1e3)
        for _ in range(TRIALS):
            time.sleep(0.002)
            began_ns = time.monotonic_ns()
            to_start.append((q.submit(first_line, TEXT).result(10) - began_ns) / 1e6)
    return sorted(to_result), sorted(to_start)


def floor(url: str, calls: int) -> float:
    redis = connect_store(url).redis
    script = redis.register_script("redis.call('LPUSH', KEYS[1], ARGV[1]) return 1")
    script(keys=["floor"], args=[TEXT])
    started = time.perf_counter()
    for _ in range(calls):
        script(keys=["floor"], args=[TEXT])
    return calls / (time.perf_counter() - started)


def one_round(url: str, tasks: int) -> dict[str, float]:
    def fresh(measure: Callable[[nbqueue.Client], float]) -> float:
        connect_store(url).redis.flushall()
        q = nbqueue.connect(url)
        figure = measure(q)
        q.close()
        return figure

    figures = {
        "floor, script calls/s": floor(url, tasks),
        "A1 submit, tasks/s": fresh(lambda q: submit_each(q, tasks)),
        "A2 map, tasks/s": fresh(lambda q: submit_map(q, tasks)),
        "B drain, tasks/s": fresh(lambda q: drain(q, url, tasks)),
    }
    connect_store(url).redis.flushall()
    q = nbqueue.connect(url)
    to_result, to_start = round_trips(q, url)
    q.close()
    for row, times in (("C round trip", to_result), ("D to first line", to_start)):
        figures[f"{row}, p50 ms"] = statistics.median(times)
        figures[f"{row}, p95 ms"] = times[int(len(times) * 0.95)]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--url", help="flushed! the default is an embedded store of its own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = options.url or f"embedded://{directory}"
        store = connect_store(url)
        rounds = []
        for number in range(options.rounds):
            rounds.append(one_round(url, options.tasks))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        print(
            f"Python {platform.python_version()}, {store.product} "
            f"{'.'.join(map(str, store.server_version))} at {store.url.scheme}://, "
            f"{options.tasks:,} tasks; median (min..max) of {options.rounds} rounds"
        )
        for row in rounds[0]:
            values = sorted(each[row] for each in rounds)
            digits = 2 if row.endswith("ms") else 0
            low, middle, high = (
                f"{value:,.{digits}f}"
                for value in (values[0], statistics.median(values), values[-1])
            )
            print(f"{row:24} {middle:>10}  ({low}..{high})")
        if options.json:
            options.json.write_text(json.dumps(rounds, indent=1))
        if not options.url:
            stop_server(Path(directory))


if __name__ == "__main__":
    main()
