"""Compare CPU time per task of this checkout and an earlier commit, in turns.

    python tests/bench/paired.py BASE [--rounds 15] [--tasks 20000]

BASE is checked out under build/paired. Each round measures both, in changing order, each with
its own budget.py, so a change of what that measures cannot be compared. CPU
time is compared and not time on the wall, which other work on the machine disturbs most. For each
part the table has both medians and the mean difference with the upper bound of its 95%
confidence interval (one-sided), in per cent of BASE; a bound of more than 3% ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "paired"
MOST = 3.0
"""Per cent: the upper bound that a change may have."""

ROWS = {
    "A1": "submit, one call each",
    "A2": "submit with map",
    "B": "work off what waits",
    "map": "map with its results",
    "C, D": "one at a time",
}
_CPU = "CPU of "


class Difference(NamedTuple):
    """A part in both checkouts: medians in microseconds, the change in per cent."""

    base: float
    now: float
    mean: float
    bound: float


def compare(base: list[float], now: list[float]) -> Difference:
    """Compare figures that were measured in turns, each with the one of its round."""
    middle = statistics.mean(base)
    changes = [(b - a) / middle * 100 for a, b in zip(base, now, strict=True)]
    mean = statistics.mean(changes)
    count = len(changes)
    error = statistics.stdev(changes) / math.sqrt(count)
    return Difference(
        statistics.median(base), statistics.median(now), mean, mean + _student(count - 1) * error
    )


def _student(freedom: int) -> float:
    """Return the 95% quantile of Student's distribution, to 1% from 4 degrees of freedom on."""
    z = statistics.NormalDist().inv_cdf(0.95)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def checkout(base: str) -> Path:
    """Return a work tree of the commit ``base``."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.check_output([*git, "rev-parse", f"{base}^{{commit}}"], text=True).strip()
    place = PLACE / commit[:12]
    if not place.exists():
        subprocess.run([*git, "worktree", "prune"], check=True)
        subprocess.run([*git, "worktree", "add", "--detach", str(place), commit], check=True)
    return place


def measure(tree: Path, tasks: int) -> dict[str, dict[str, float]]:
    """Run the budget.py of ``tree`` once; return its figures by row."""
    results = tree / "build" / "bench"
    before = set(results.glob("budget-*.json"))
    program = [sys.executable, f"{tree}/tests/bench/budget.py", "--no-trace"]
    subprocess.run(
        [*program, "--rounds", "1", "--tasks", str(tasks)],
        env={**os.environ, "PYTHONPATH": str(tree)},
        cwd=tree,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    [path] = set(results.glob("budget-*.json")) - before
    parts = json.loads(path.read_text())["parts"]
    path.unlink()
    return {
        row: {name: values[0] for name, values in parts[title].items() if name.startswith(_CPU)}
        for row, title in ROWS.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="a commit, such as origin/main or HEAD~5")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=20_000)
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error("--rounds must be 3 or more")
    trees = {"base": checkout(options.base), "now": ROOT}
    found: dict[str, dict[tuple[str, str], list[float]]] = {"base": {}, "now": {}}
    for turn in range(options.rounds):
        for side in ("base", "now") if turn % 2 else ("now", "base"):
            for row, parts in measure(trees[side], options.tasks).items():
                for name, figure in [*parts.items(), (f"{_CPU}all, us", sum(parts.values()))]:
                    found[side].setdefault((row, name), []).append(figure)
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
    print(f"{'row':5} {'part':24} {'before':>9} {'now':>9} {'change':>8} {'bound':>8}")
    is_slower = False
    for (row, name), base in found["base"].items():
        each = compare(base, found["now"][row, name])
        mark = ""
        if each.bound > MOST:
            mark, is_slower = "  more than 3%", is_slower or name == f"{_CPU}all, us"
        part = name.removeprefix(_CPU)
        print(
            f"{row:5} {part:24} {each.base:9.1f} {each.now:9.1f} {each.mean:+7.1f}% "
            f"{each.bound:+7.1f}%{mark}"
        )
    return int(is_slower)


if __name__ == "__main__":
    sys.exit(main())
