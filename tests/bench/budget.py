"""Costs of a task by part: microseconds, commands, bytes, system calls.

    python tests/bench/budget.py [--tasks 10000] [--rounds 3] [--no-trace] [--url URL]

CPU time is what a process has used, so other work on the machine disturbs it less than time on the
wall. Redis's is from INFO: of the whole process, and of each command. The parts overlap in time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import TEXT, Bench, noop
from idle import cpu_seconds
from run import RESULTS, number, user_without_settings
from server import private_server

import nbqueue
from nbqueue.store.connection import connect

_TOTAL = re.compile(r"^100\.00\s+\S+\s+\S+\s+(\d+)", re.MULTILINE)
#: What a script never calls: these come from clients.
_OF_CLIENTS = ("evalsha", "eval", "blmove", "brpop", "blpop", "xread", "auth", "hello", "client")


class Meter:
    """Usage of the store and some processes between two moments, for each task."""

    def __init__(self, bench: Bench, pids: dict[str, list[int]]) -> None:
        self._redis, self._pids = bench.redis, pids
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        info: dict[str, Any] = self._redis.info("all")
        found = {
            "Redis": info["used_cpu_user"] + info["used_cpu_sys"],
            "bytes to Redis": info["total_net_input_bytes"],
            "bytes from Redis": info["total_net_output_bytes"],
        }
        commands = self._redis.info("commandstats")
        for name, each in commands.items():
            word = name.removeprefix("cmdstat_")
            if word in _OF_CLIENTS or word in ("info", "config|resetstat"):
                found[f"{word}, calls"] = each["calls"]
                found[f"{word}, us"] = each["usec"]
            else:
                found["commands in scripts"] = found.get("commands in scripts", 0) + each["calls"]
        for part, pids in self._pids.items():
            found[part] = cpu_seconds(pids)
        return found

    def per_task(self, tasks: int) -> dict[str, float]:
        after = self._read()
        used = {name: after[name] - self._before.get(name, 0) for name in after}
        parts = ("Redis", *self._pids)
        figures = {f"CPU of {part}, us": used[part] / tasks * 1e6 for part in parts}
        for name, figure in used.items():
            asked_for_it = name.startswith(("info", "config", "client"))
            if name not in parts and not asked_for_it and figure:
                figures[name] = figure / tasks
        return figures


def submitting(bench: Bench, tasks: int, submit: Callable[[nbqueue.Client], object]) -> Any:
    with bench.client() as q:
        q.submit(noop, 0, TEXT)
        meter = Meter(bench, {"client": [os.getpid()]})
        submit(q)
        return meter.per_task(tasks)


def working(bench: Bench, tasks: int) -> dict[str, float]:
    """A worker that drains waiting tasks, while no client waits for results."""
    with bench.client() as q:
        q.map(noop, range(tasks), [TEXT] * tasks)
    bench.redis.rename("asynq:{default}:pending", "held:{default}")
    with bench.worker() as worker:
        assert worker.pid is not None
        time.sleep(0.5)  # its start takes a moment longer, and is no part of what a task takes
        meter = Meter(bench, {"supervisor": [worker.pid], "executors": worker.executor_pids()})
        bench.redis.rename("held:{default}", "asynq:{default}:pending")
        bench.wait_for(lambda: bench.completed() >= tasks)
        return meter.per_task(tasks)


def whole(bench: Bench, tasks: int) -> dict[str, float]:
    """A map, its tasks and all their results."""
    with bench.client() as q, bench.worker() as worker:
        q.map(noop, range(200), [TEXT] * 200).results(60)
        assert worker.pid is not None
        pids = {
            "client": [os.getpid()],
            "supervisor": [worker.pid],
            "executors": worker.executor_pids(),
        }
        meter = Meter(bench, pids)
        began = time.perf_counter()
        q.map(noop, range(tasks), [TEXT] * tasks).results(300)
        seconds = time.perf_counter() - began
        return {"on the wall, us": seconds / tasks * 1e6, **meter.per_task(tasks)}


def one_at_a_time(bench: Bench, tasks: int) -> dict[str, float]:
    """Submit, wait for the result, and again: nothing can be batched."""
    with bench.client() as q, bench.worker() as worker:
        q.submit(noop, 0, TEXT).result(60)
        assert worker.pid is not None
        pids = {
            "client": [os.getpid()],
            "supervisor": [worker.pid],
            "executors": worker.executor_pids(),
        }
        meter = Meter(bench, pids)
        began = time.perf_counter()
        for each in range(tasks):
            q.submit(noop, each, TEXT).result(60)
        seconds = time.perf_counter() - began
        return {"on the wall, us": seconds / tasks * 1e6, **meter.per_task(tasks)}


def system_calls(bench: Bench, tasks: int) -> dict[str, float]:
    """Count the supervisor's and an executor's system calls while they drain.

    strace slows them down a lot.
    """
    if shutil.which("strace") is None:
        return {}
    with bench.client() as q:
        q.map(noop, range(tasks), [TEXT] * tasks)
    bench.redis.rename("asynq:{default}:pending", "held:{default}")
    with bench.worker(concurrency=1) as worker, tempfile.TemporaryDirectory() as folder:
        assert worker.pid is not None
        parts = {"supervisor": worker.pid, "executor": worker.executor_pids()[0]}
        tracers = {}
        for part, pid in parts.items():
            command = ["strace", "-c", "-f", "-p", str(pid), "-o", f"{folder}/{part}"]
            tracers[part] = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        for tracer in tracers.values():
            assert tracer.stdout is not None
            if "attached" not in tracer.stdout.readline():
                return {}  # tracing is not allowed here
        bench.redis.rename("held:{default}", "asynq:{default}:pending")
        bench.wait_for(lambda: bench.completed() >= tasks)
        figures = {}
        for part, tracer in tracers.items():
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
            calls = _TOTAL.search((Path(folder) / part).read_text())
            if calls is not None:
                figures[f"system calls of the {part}"] = int(calls[1]) / tasks
        return figures


def measure(bench: Bench, tasks: int, *, trace: bool) -> dict[str, dict[str, float]]:
    def each(q: nbqueue.Client) -> None:
        for one in range(tasks):
            q.submit(noop, one, TEXT)

    return {
        "submit, one call each": submitting(bench, tasks, each),
        "submit with map": submitting(
            bench, tasks, lambda q: q.map(noop, range(tasks), [TEXT] * tasks)
        ),
        "work off what waits": working(bench, tasks),
        "map with its results": whole(bench, tasks),
        "one at a time": one_at_a_time(bench, max(tasks // 10, 50)),
        "work off what waits, traced": system_calls(bench, max(tasks // 5, 50)) if trace else {},
    }


def run(url: str, options: argparse.Namespace) -> None:
    found: dict[str, dict[str, list[float]]] = {}
    with connect(url) as store:
        bench = Bench(url, store.redis)
        for turn in range(options.rounds):
            for what, figures in measure(bench, options.tasks, trace=options.trace).items():
                for name, figure in figures.items():
                    found.setdefault(what, {}).setdefault(name, []).append(figure)
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
        bench.redis.flushall()
    print(f"For each of {options.tasks:,} tasks; median (min..max) of {options.rounds} rounds")
    for what, parts in found.items():
        print(what)
        for name, figures in parts.items():
            spread = f"({number(min(figures))}..{number(max(figures))})"
            print(f"  {name:32} {number(statistics.median(figures)):>8}  {spread}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"budget-{time.strftime('%Y-%m-%dT%H%M%SZ', time.gmtime())}.json"
    path.write_text(json.dumps({"tasks": options.tasks, "parts": found}, indent=1))
    print(f"stored in {path}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-trace", dest="trace", action="store_false", help="no system calls")
    parser.add_argument("--url", help="flushed! the default is a private server")
    options = parser.parse_args()
    with user_without_settings():
        if options.url:
            run(options.url, options)
        else:
            with private_server() as url:
                run(url, options)


if __name__ == "__main__":
    main()
