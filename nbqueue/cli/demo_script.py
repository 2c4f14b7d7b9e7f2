"""The demonstration: a cross-validated search on two workers, one of which loses a process.

``nbqueue demo`` runs ``python -m nbqueue.cli.demo_script PICTURE``. It is a script as a user writes
one: `fit` is a function of ``__main__``, and is sent to the workers by value.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nbqueue
from nbqueue.cli import demo_show
from nbqueue.store.embedded import stop_server

if TYPE_CHECKING:
    from pandas import DataFrame

Parameters = dict[str, Any]

FOLDS: Final = 3
KILL_AFTER: Final = 12
"""An executor is killed after this number of fits."""

ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def fit(parameters: Parameters, fold: int) -> float:
    """Train a classifier on two thirds of the digits; return its accuracy.

    The accuracy is 0 to 1, on the other third.
    """
    import warnings

    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    images, digits = load_digits(return_X_y=True)
    images = images / 16
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(images, digits))
    learn, check = splits[fold]
    kinds = {"SVC": SVC, "RandomForest": RandomForestClassifier, "MLP": MLPClassifier}
    settings = {name: value for name, value in parameters.items() if name != "model"}
    classifier = kinds[parameters["model"]](random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(images[learn], digits[learn])
    return float(classifier.score(images[check], digits[check]))


def grid() -> list[Parameters]:
    """Return the 16 sets of parameters to compare, the slow ones first."""
    forests = product((800, 400), (16, 8, 4))
    networks = product(((256, 128), (128,)), (1e-2, 1e-4))
    machines = product((1, 10), (0.01, 0.03, 0.1))
    return [
        *({"model": "RandomForest", "n_estimators": n, "max_features": f} for n, f in forests),
        *({"model": "MLP", "hidden_layer_sizes": h, "alpha": a} for h, a in networks),
        *({"model": "SVC", "C": c, "gamma": g} for c, g in machines),
    ]


def main(picture: str) -> int:
    """Run the demonstration. Returns 0 if all checks hold."""
    for module, package in (("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")):
        if importlib.util.find_spec(module) is None:
            print(f"The demo needs {package}: pip install {package}", file=sys.stderr)
            return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="nbqueue-demo-"))
    try:
        with two_workers(folder) as (q, workers):
            return search(q, workers, picture)
    except KeyboardInterrupt:
        print("\nInterrupted; the workers and the store are stopped.", file=sys.stderr)
        return 130
    except nbqueue.NbqueueError as error:
        demo_show.failure(error, folder / "workers.log")
        return 1
    finally:
        stop_server(folder / "store")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def two_workers(folder: Path) -> Iterator[tuple[nbqueue.Client, list[nbqueue.Worker]]]:
    """Yield a client and two running workers on a new store, and end them afterwards."""
    # Two workers on two cores: more threads in each would slow both down.
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    url = f"embedded://{folder / 'store'}"
    log = folder / "workers.log"
    q = nbqueue.connect(url)
    workers = [nbqueue.Worker(url, concurrency=1, shutdown_timeout=2, log=log) for _ in range(2)]
    try:
        for worker in workers:
            worker.start()
        yield q, workers
    finally:
        for worker in workers:
            worker.stop()
        q.close()


def search(q: nbqueue.Client, workers: list[nbqueue.Worker], picture: str) -> int:
    """Fit all models, lose a process on the way, and show the results."""
    pids = " and ".join(str(worker.pid) for worker in workers)
    calls = list(product(grid(), range(FOLDS)))
    print(f"Two workers run, processes {pids}. Submitting {len(calls)} fits.")
    begun = time.monotonic()
    group = q.map(fit, *zip(*calls, strict=True))
    accident = Accident(workers, group)
    with demo_show.progress_bar(len(calls), "fits") as (advance, say):
        for _ in group.as_completed():
            advance()
            accident.after_a_fit(say)
    seconds = time.monotonic() - begun
    scores = group.results()
    attempts = group.attempts("all")
    demo_show.attempts_table(
        attempts, {i: label(*c) for i, c in zip(group.ids, calls, strict=True)}
    )
    group.timeline(title="48 fits on two workers, one of which loses a process").savefig(
        picture, dpi=150
    )
    problems = list(check(scores, attempts, group.ids))
    means = [
        (sum(scores[FOLDS * i : FOLDS * (i + 1)]) / FOLDS, parameters)
        for i, parameters in enumerate(grid())
    ]
    demo_show.best_table(sorted(means, key=lambda pair: -pair[0]))
    print(f"Took {seconds:.0f} s. Timeline: {Path(picture).resolve()}")
    for problem in problems:
        print(f"Wrong: {problem}", file=sys.stderr)
    if not problems:
        print(
            f"All {len(scores)} fits are in the results, each exactly once, although a process "
            "was killed in the middle of one."
        )
    return 1 if problems else 0


class Accident:
    """Kills an executor in mid-run, and makes sure that it was running a fit.

    A lost attempt proves it: an idle executor loses none. If the executor was between two fits,
    another one is killed.
    """

    def __init__(self, workers: list[nbqueue.Worker], group: nbqueue.TaskGroup[float]) -> None:
        self._workers = workers
        self._group = group
        self._try_at = KILL_AFTER
        self._happened = False

    def after_a_fit(self, say: Callable[[str], None]) -> None:
        """Kill an executor, or check the effect. ``say`` prints a line."""
        if self._happened or self._group.done_count < KILL_AFTER:
            return
        lost = self._lost()
        if len(lost):
            self._happened = True
            say(f"Lost with it: an attempt at a fit ({lost['reason'].iloc[0]}). It runs again.")
        elif self._group.done_count >= self._try_at:
            self._try_at = self._group.done_count + 3
            self._kill(say)

    def _lost(self) -> DataFrame:
        attempts = self._group.attempts("all")
        lost: DataFrame = attempts[attempts["outcome"] == "lost"]
        return lost

    def _kill(self, say: Callable[[str], None]) -> None:
        import psutil

        pids = [pid for worker in self._workers for pid in worker.executor_pids()]
        executors = [psutil.Process(pid) for pid in pids]
        for executor in executors:
            executor.cpu_percent()  # the first call starts the measurement
        load = {executor.pid: executor.cpu_percent(interval=0.1) for executor in executors}
        busiest = max(load, key=lambda pid: load[pid])
        os.kill(busiest, signal.SIGKILL)
        say(f"Killed executor {busiest} (SIGKILL), which was busy: {load[busiest]:.0f} % CPU.")


def check(scores: list[float], attempts: DataFrame, ids: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong: each fit must have one result, and one attempt must be lost."""
    completed = attempts[attempts["outcome"] == "completed"]["task_id"]
    if len(scores) != len(ids) or not all(0 <= score <= 1 for score in scores):
        yield "a result is missing"
    if sorted(completed) != sorted(ids):
        yield f"{len(completed)} attempts completed for {len(ids)} fits"
    if not (attempts["outcome"] == "lost").any():
        yield "no attempt was lost, so no executor was killed while it ran a fit"


def label(parameters: Parameters, fold: int) -> str:
    """Describe a fit in a few words."""
    words = [str(value) for value in parameters.values()]
    return f"{', '.join(words)}; fold {fold}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "nbqueue-demo-timeline.png"))
