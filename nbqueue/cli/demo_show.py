"""The output of the demonstration: a progress bar, a table of attempts, the best parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbqueue.durations import format_duration

if TYPE_CHECKING:
    from pandas import DataFrame

_EVERY = 8
"""Tasks per printed line, if there is no terminal."""


@contextmanager
def progress_bar(
    total: int, what: str
) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """Show a live bar, or lines without a terminal. Yields ``advance()`` and ``say(text)``."""
    if not sys.stdout.isatty():
        yield _plain_lines(total, what)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(what, total=total)
        yield (
            lambda: bar.advance(task),
            lambda text: bar.console.print(text, style="yellow", highlight=False),
        )


def _plain_lines(total: int, what: str) -> tuple[Callable[[], None], Callable[[str], None]]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done % _EVERY == 0 or done == total:
            print(f"{done} of {total} {what} done", flush=True)

    return advance, lambda text: print(text, flush=True)


def attempts_table(attempts: DataFrame, labels: Mapping[str, str]) -> None:
    """Print a frame of attempts with local times. ``labels`` describe tasks by id."""
    import pandas as pd

    from nbqueue.views.frames.attempt_frames import duration_words

    zone = attempts["started_at"].iloc[0].to_pydatetime().astimezone().tzinfo
    shown = pd.DataFrame(
        {
            "task": attempts["task_id"].map(labels),
            "attempt": attempts["attempt"],
            "outcome": attempts["outcome"],
            "started": attempts["started_at"].dt.tz_convert(zone).dt.strftime("%H:%M:%S"),
            "waited": duration_words(attempts["waited"]),
            "duration": duration_words(attempts["duration"]),
            "memory": [
                "–" if pd.isna(size) else f"{size / 2**20:.0f} MiB"
                for size in attempts["peak_memory"]
            ],
            "worker": attempts["worker"].astype("string").str.split(":").str[1],
        }
    )
    print(f"\nAll {len(shown)} attempts, a DataFrame (times in {zone}):\n")
    print(shown.to_string(index=False))
    reasons = attempts.dropna(subset=["reason"])
    print("\nThose that did not complete:\n")
    for _, row in reasons.iterrows():
        print(f"  {labels[row['task_id']]}, attempt {row['attempt']}: {row['outcome']}")
        print(f"    after {format_duration(row['duration'].total_seconds())}: {row['reason']}")


def best_table(ranked: list[tuple[float, dict[str, Any]]], most: int = 5) -> None:
    """Print the first pairs of (mean score, parameters), which are sorted by score."""
    print("\nThe best parameters, by the mean accuracy over the folds:\n")
    for place, (score, parameters) in enumerate(ranked[:most], 1):
        words = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        print(f"  {place}. {score:.4f}  {words}")
    score, parameters = ranked[0]
    print(f"\nBest: {parameters}, mean accuracy {score:.4f}\n")


def failure(error: Exception, log: Path, lines: int = 15) -> None:
    """Print an error and the end of the workers' log to stderr."""
    print(f"The demo failed: {error}", file=sys.stderr)
    if log.exists():
        print("The end of the workers' log:", file=sys.stderr)
        for line in log.read_text(errors="replace").splitlines()[-lines:]:
            print(f"  {line}", file=sys.stderr)
