"""Measure nbqueue and its peers, interleaved, for the table of docs/benchmarks.md.

    python tests/bench/beside.py [--peers nbqueue,rq] [--rows ABC] [--rounds 2] [--quick]
    python tests/bench/beside.py --table build/bench/peers-….json

Each peer has an environment of its own in build/peers, which is made when it is missing; one that
cannot be installed is named in the table. The store of those that have one is a private Redis on
loopback TCP without persistence. Where medians differ by less than half, call it a tie: the
machine is never quiet.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
import redis
import table
from bench import Bench
from contenders import CONTENDERS, Contender
from floor import floor
from idle import monitored
from memory import proportional
from processes import Place, of_session
from server import private_server

import nbqueue

RESULTS = Path(__file__).resolve().parents[2] / "build" / "bench"
#: What one round of a peer found: {"A1": {"tasks/s": 1.0}}; or {"A1": {"error": "…"}}.
Found = dict[str, dict[str, Any]]


def count_of(contender: Contender, options: argparse.Namespace) -> int:
    """Return the number of tasks of a peer in A and B."""
    return max(200, round(contender.tasks * (0.1 if options.quick else options.share)))


class Round:
    """One peer, once."""

    def __init__(self, place: Place, contender: Contender, options: argparse.Namespace) -> None:
        self.place, self.contender, self.options = place, contender, options
        self.redis = redis.Redis.from_url(place.url)
        self.rows = set(contender.rows) & set(options.rows)
        self.count = count_of(contender, options)
        self.found: Found = {}

    def measure(self) -> Found:
        steps: list[tuple[str, Callable[[], None]]] = []
        if self.rows & set("AB"):
            if self.contender.has_store:
                steps.append(("A1", self._submit_and_drain))
                if self.contender.bulk and "A" in self.rows:
                    steps.append(("A2", self._submit_many))
            else:
                steps.append(("A1", lambda: self._gather("A1", False)))
                if self.contender.bulk and "A" in self.rows:
                    steps.append(("A2", lambda: self._gather("A2", True)))
        if self.rows & set("CDEFG"):
            steps.append(("C", self._use))
        for row, step in steps:
            self.redis.flushall()
            self.place.marks.write_bytes(b"")
            try:
                step()
            except Exception as error:
                self.found[row] = {"error": f"{error}"[:160]}
        return self.found

    def _submit(self, bulk: bool) -> dict[str, Any]:
        before = self.redis.info("memory")["used_memory"]
        wanted = {"count": self.count, "bulk": bulk}
        found = self.place.ask(self.contender, "submit", wanted)
        used = self.redis.info("memory")["used_memory"] - before
        self.found["L"] = {"bytes/task": used / self.count}
        return found

    def _submit_and_drain(self) -> None:
        self.found["A1"] = self._submit(bulk=False)
        if "B" not in self.rows:
            return
        began = time.monotonic()
        with self.place.workers(self.contender):
            self._wait_for_marks()
        times = self.place.times()
        self.found["B"] = {"tasks/s": (len(times) - 1) / (max(times) - min(times))}
        self.found["H"] = {"s": min(times) - began}

    def _wait_for_marks(self) -> None:
        limit, seen = time.monotonic() + 30, 0
        while True:
            size = self.place.marks.stat().st_size // 16
            if size >= self.count:
                return
            if size > seen:
                limit, seen = time.monotonic() + 30, size
            if time.monotonic() > limit:
                raise RuntimeError(f"its workers stopped at {size} of {self.count}")
            time.sleep(0.01)

    def _submit_many(self) -> None:
        self.found["A2"] = self._submit(bulk=True)

    def _gather(self, row: str, bulk: bool) -> None:
        wanted = {"count": self.count, "bulk": bulk}
        found = self.place.ask(self.contender, "submit_and_gather", wanted)
        self.found[row] = {"tasks/s": found["tasks/s"]}
        if not bulk:
            self.found["B"] = {"tasks/s": found["drain"]}

    def _use(self) -> None:
        quick = self.options.quick
        wanted = {
            "rows": "".join(sorted(self.rows)),
            "trials": 20 if quick else 150,
            "seconds": 10,
            "seed": 1,
            "less": 10 if quick else 1,
        }
        if not self.contender.has_store:
            self.found.update(self.place.ask(self.contender, "use", wanted))
            return
        with self.place.workers(self.contender) as leaders:
            self.found.update(self.place.ask(self.contender, "use", wanted))
            time.sleep(0.5)
            pids = [pid for leader in leaders for pid in of_session(leader)]
            seconds = 1.0 if quick else 3.0
            self.found["J"] = {"commands/s": monitored(self.place.url, seconds)[0] / seconds}
            # Of workers that are idle by now.
            self.found["I"] = {"MB": proportional(pids)}


def measure(options: argparse.Namespace, url: str, folder: Path) -> dict[str, Any]:
    store = redis.Redis.from_url(url)
    result: dict[str, Any] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "store": f"redis {store.info('server')['redis_version']}",
        "cpus": os.cpu_count(),
        "rounds": options.rounds,
        "quick": options.quick,
        "floor": [],
        "load": [],
        "peers": {},
    }
    # As pip leaves what it installs, the others among them.
    compileall.compile_dir(str(Path(nbqueue.__file__).parent), quiet=1)
    ready = []
    for contender in options.contenders:
        reason = environments.install(contender.place)
        about: dict[str, Any] = {"about": contender.about, "rounds": []}
        about["tasks"] = count_of(contender, options)
        result["peers"][contender.name] = about
        if reason is None:
            about["versions"] = environments.versions(contender.place, list(contender.packages))
            ready.append(contender)
        else:
            about["missing"] = reason
    for number in range(options.rounds):
        result["floor"].append(floor(Bench(url, store)))
        random.Random(number).shuffle(ready)  # each round in another order
        for contender in ready:
            began = time.monotonic()
            result["load"].append(os.getloadavg()[0])
            found = Round(Place(url, folder), contender, options).measure()
            result["peers"][contender.name]["rounds"].append(found)
            seconds = time.monotonic() - began
            said = f"round {number + 1}: {contender.name} ({seconds:.0f} s) {_errors(found)}"
            print(said.rstrip(), file=sys.stderr, flush=True)
            options.json.write_text(json.dumps(result, indent=1))
    return result


def _errors(found: Found) -> str:
    return "; ".join(f"{row}: {each['error']}" for row, each in found.items() if "error" in each)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--peers", help=f"some of {', '.join(names)}; the default is all of them")
    parser.add_argument("--rows", default="ABCDEFG", help="some of ABCDEFG")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the tasks in A and B")
    parser.add_argument("--quick", action="store_true", help="only to see that they work")
    parser.add_argument("--json", type=Path, help="the default is a file in build/bench")
    parser.add_argument("--table", type=Path, help="only write the table, from this file")
    options = parser.parse_args()
    chosen = options.peers.split(",") if options.peers else names
    if unknown := set(chosen) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    options.contenders = [each for each in CONTENDERS if each.name in chosen]
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    options.json = options.json or RESULTS / f"peers-{stamp}.json"
    return options


def main() -> None:
    options = arguments()
    if options.table:
        table.write(json.loads(options.table.read_text()))
        return
    with tempfile.TemporaryDirectory(prefix="nbqueue-peers-") as folder:
        os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_DATA_HOME"] = folder
        os.environ.pop("NBQUEUE_KEY", None)
        with private_server() as url:
            result = measure(options, url, Path(folder))
    print(table.of(result))
    if not options.quick:
        table.write(result)
    print(f"stored in {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
