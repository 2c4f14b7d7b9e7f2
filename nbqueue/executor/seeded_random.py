"""Random numbers of a task that has a seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from nbqueue.calls.call_extensions import Seed, read_seed
from nbqueue.errors import UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.tasks.task import current_task

if TYPE_CHECKING:
    import numpy as np


class _Source:
    """The seed of an attempt, and the generator made of it."""

    __slots__ = ("generator", "pid", "seed")

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.pid = os.getpid()
        self.generator: np.random.Generator | None = None


_current: ContextVar[_Source | None] = ContextVar("nbqueue.rng", default=None)


@pickled_as("nbqueue.executor.randomness")
def rng() -> np.random.Generator:
    """Return the NumPy generator of the task that this code runs in.

    The task must have been submitted with ``seed=``. The generator is made of the seed and of the
    number of the task: its place in the map, 0 for a single one. So each task of a map draws
    numbers of its own, and each attempt, and a replay, draws the same ones again.

    >>> def simulate(n):
    ...     return nbqueue.rng().normal(size=n).mean()
    >>> q.options(seed=7).map(simulate, [1000] * 8)     # doctest: +SKIP

    Every call within a task returns the same object. Threads and child processes that the task
    starts do not know it: pass each of them one from ``nbqueue.rng().spawn(n)``. Raises
    `UsageError` outside of a task and in one without ``seed=``, and `ModuleNotFoundError` where
    NumPy is not installed.
    """
    source = _current.get()
    if source is None:
        raise UsageError(_no_seed())
    if source.pid != os.getpid():  # all such children would draw the same numbers
        raise UsageError(
            "nbqueue.rng() is for the task itself, and this is a child process of it: pass the "
            "child a generator, such as one of nbqueue.rng().spawn(4)"
        )
    if source.generator is None:
        source.generator = _make_generator(source.seed)
    return source.generator


def set_seed(packed: bytes) -> None:
    """Let `rng` draw from a packed seed in this context."""
    _current.set(_Source(read_seed(packed)))


@contextmanager
def seeded(seed: Seed | None) -> Iterator[None]:
    """Let `rng` draw from ``seed`` within the block; None: let it raise."""
    token = _current.set(None if seed is None else _Source(seed))
    try:
        yield
    finally:
        _current.reset(token)


def clear_seed() -> None:
    """Let `rng` raise from now on in this context, after its task."""
    _current.set(None)


def _make_generator(seed: Seed) -> np.random.Generator:
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "nbqueue.rng() gives a NumPy generator, and NumPy is not installed here: install it "
            "where the worker runs (pip install numpy)",
            name=error.name,
        ) from error
    sequence = np.random.SeedSequence(seed.seed, spawn_key=(seed.number,))
    return np.random.default_rng(sequence)


def _no_seed() -> str:
    task = current_task()
    if task is None:
        return (
            "nbqueue.rng() is for the code of a task that was submitted with a seed, in the thread "
            "or coroutine of the task itself: q.options(seed=7).map(fn, …)"
        )
    return (
        f"the task {task.type} has no seed, so nbqueue.rng() has no numbers for it: submit it with "
        "q.options(seed=7)"
    )
