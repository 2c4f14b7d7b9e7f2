"""Measure nbqueue here: medians of several rounds, and this machine's own floor.

    python tests/bench/run.py [--rows A1,B] [--rounds 3] [--quick] [--slow] [--url URL]

Everything runs at the defaults that a user gets: calls are signed, leased, announced and recorded,
results are kept for a day, executors are processes; no-op tasks with about 100 bytes of arguments,
two executors. The rows take turns, so that a slow moment of the machine meets all of them. The
store is a private Redis on loopback TCP without persistence (row M turns it on). See
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import Bench, NotHere
from rows import BY_NAME, ROWS, Row
from server import private_server

from nbqueue.store.connection import connect

RESULTS = Path(__file__).resolve().parents[2] / "build" / "bench"
#: What each row found, round by round: {"A1": {"tasks/s": [1.0, 2.0]}}.
Found = dict[str, dict[str, list[float]]]


@contextmanager
def user_without_settings() -> Iterator[None]:
    """The user's own key and store are left alone."""
    with tempfile.TemporaryDirectory(prefix="nbqueue-bench-") as folder:
        for name in [name for name in os.environ if name.startswith("NBQUEUE_")]:
            if name != "NBQUEUE_REDIS_SERVER":
                del os.environ[name]
        os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_DATA_HOME"] = folder
        yield


def measure(bench: Bench, rows: list[Row], rounds: int) -> tuple[Found, dict[str, str]]:
    """Return the figures of the rows, and the reasons for missing ones."""
    found: Found = {}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for row in rows:
            began = time.monotonic()
            try:
                figures = row.measure(bench)
            except NotHere as reason:
                missing[row.name] = str(reason)
                continue
            except Exception as error:
                # One row that fails does not take with it what the others found.
                traceback.print_exc()
                missing[row.name] = f"it failed: {type(error).__name__}: {error}"
                continue
            for name, figure in figures.items():
                found.setdefault(row.name, {}).setdefault(name, []).append(figure)
            seconds = time.monotonic() - began
            print(f"round {number + 1}: {row.name} ({seconds:.1f} s)", file=sys.stderr, flush=True)
    return found, missing


def number(figure: float) -> str:
    """Format a number with about three significant digits."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:,.3g}"


def show(found: Found, missing: dict[str, str], quick: bool) -> None:
    for row in ROWS:
        if row.name in missing:
            print(f"{row.name:9} {row.title}: not measured, because {missing[row.name]}")
        if row.name not in found:
            continue
        print(f"{row.name:9} {row.title}")
        for name, figures in found[row.name].items():
            middle = statistics.median(figures)
            spread = f"({number(min(figures))}..{number(max(figures))})"
            goal = None if quick else row.goals.get(name)
            told = "" if goal is None else f"goal {goal}: {'met' if goal.is_met(middle) else 'no'}"
            print(f"{'':9}   {name:38} {number(middle):>9}  {spread:22} {told}".rstrip())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ", ".join(BY_NAME)
    parser.add_argument("--rows", help=f"some of {names}; the default is all of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only to see that it works")
    parser.add_argument("--slow", action="store_true", help="with 1,000,000 waiting tasks in K, N")
    parser.add_argument("--json", type=Path, help="the default is a file in build/bench")
    parser.add_argument("--url", help="flushed! the default is a private server")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    options.chosen = list(ROWS)
    if options.rows:
        unknown = set(options.rows.split(",")) - set(BY_NAME)
        if unknown:
            parser.error(f"there is no row {', '.join(sorted(unknown))}: choose from {names}")
        options.chosen = [row for row in ROWS if row.name in options.rows.split(",")]
    return options


def run(options: argparse.Namespace, url: str) -> None:
    with connect(url) as store:
        facts: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "python": platform.python_version(),
            "store": f"{store.product} {'.'.join(map(str, store.server_version))}",
            "scheme": store.url.scheme,
            "private": options.url is None,
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "rounds": options.rounds,
            "quick": options.quick,
        }
        bench = Bench(url, store.redis, options.quick, options.slow)
        found, missing = measure(bench, options.chosen, options.rounds)
        store.redis.flushall()
    kind = "a private server without persistence" if facts["private"] else "the one given"
    print(
        f"Python {facts['python']}, {facts['store']} at {facts['scheme']}:// ({kind}), "
        f"{facts['cpus']} CPUs, load {facts['load']:.1f} at the start; "
        f"median (min..max) of {options.rounds} rounds"
    )
    show(found, missing, options.quick)
    path = options.json or RESULTS / f"rows-{facts['at'].replace(':', '')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "rows": found, "missing": missing}, indent=1))
    print(f"stored in {path}", file=sys.stderr)


def main() -> None:
    options = arguments()
    with user_without_settings():
        if options.url:
            run(options, options.url)
        else:
            with private_server() as url:
                run(options, url)


if __name__ == "__main__":
    main()
