"""Random numbers in tasks: seeds, generators of modules, and copies of generators."""

from __future__ import annotations

import asyncio
import functools
import itertools
import multiprocessing
import os
import random
import signal
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nbqueue
from nbqueue import RandomStateWarning, UsageError
from nbqueue.calls import payloads
from nbqueue.calls.pickling import captured_values
from nbqueue.testing import eager_client

WAIT = 30.0

rng = np.random.default_rng(3)
numbers = np.random


@pytest.fixture(scope="module")
def lab(shared_lab: Any) -> Iterator[Any]:
    with shared_lab.worker(concurrency=2):
        yield shared_lab


@pytest.fixture
def q(lab: Any) -> Iterator[Any]:
    client = nbqueue.connect(lab.url, key="5b" * 32)
    yield client
    client.close()


def draw(i: int) -> float:
    assert nbqueue.rng() is nbqueue.rng()
    return float(nbqueue.rng().random())


def try_to_draw(i: int) -> str:
    try:
        return repr(nbqueue.rng().random())
    except UsageError as error:
        return str(error)


async def draw_slowly(i: int) -> float:
    first = nbqueue.rng()
    await asyncio.sleep(0.01)
    assert first is nbqueue.rng()
    return float(first.random())


def draw_with(i: int, ballast: bytes) -> float:
    return float(nbqueue.rng().random())


def draw_then_fail(path: str) -> list[float]:
    value = float(nbqueue.rng().random())
    with open(path, "a") as file:
        file.write(f"{value!r}\n")
    with open(path) as file:
        lines = file.readlines()
    if len(lines) == 1:
        raise OSError("try again")
    if len(lines) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return [float(line) for line in lines]


def expected(seed: int, count: int) -> list[float]:
    children = np.random.SeedSequence(seed).spawn(count)
    return [float(np.random.default_rng(child).random()) for child in children]


class TestSeeds:
    def test_each_task_of_a_map_draws_its_own_numbers(self, q: Any) -> None:
        assert q.options(seed=7).map(draw, range(20)).results(WAIT) == expected(7, 20)

    def test_the_numbers_of_a_task_do_not_depend_on_the_size_of_the_map(self, q: Any) -> None:
        sizes = [q.options(seed=7).map(draw, range(n)).results(WAIT) for n in (3, 1500)]
        assert sizes[1][:3] == sizes[0]
        assert len(set(sizes[1])) == 1500

    def test_one_submitter_begins_each_map_anew(self, q: Any) -> None:
        seeded = q.options(seed=np.int64(7))
        assert seeded.map(draw, range(3)).results(WAIT) == seeded.map(draw, "abc").results(WAIT)
        assert seeded.submit(draw, 5).result(WAIT) == expected(7, 1)[0]

    @pytest.mark.parametrize("seed", [0, 1, 2**64, 2**4000 + 1])
    def test_any_seed_will_do(self, q: Any, seed: int) -> None:
        assert q.options(seed=seed).map(draw, range(2)).results(WAIT) == expected(seed, 2)

    def test_coroutines_have_generators_of_their_own(self, q: Any) -> None:
        assert q.options(seed=7).map(draw_slowly, range(8)).results(WAIT) == expected(7, 8)

    def test_large_arguments_and_exact_time_outs_go_with_a_seed(self, q: Any) -> None:
        ballast = os.urandom(5_000_000)
        seeded = q.options(seed=7, timeout=20.5)
        group = seeded.map(draw_with, range(3), [ballast] * 3)
        assert group.results(WAIT) == expected(7, 3)

    def test_decorators_and_partials(self, q: Any) -> None:
        decorated = q.task(seed=7)(draw)
        assert decorated.map(range(3)).results(WAIT) == expected(7, 3)
        partial = q.options(seed=7).submit(functools.partial(draw, 1))
        assert partial.result(WAIT) == decorated.submit(1).result(WAIT) == expected(7, 1)[0]

    def test_each_attempt_and_each_replay_draws_the_same(self, q: Any, tmp_path: Any) -> None:
        path = str(tmp_path / "drawn")
        future = q.options(seed=7, retry=1, retry_delay=0.01).submit(draw_then_fail, path)
        found = future.result(WAIT)
        assert found == expected(7, 1) * 3
        assert future.replay() == expected(7, 1) * 4
        assert q.options(seed=7).map(draw_slowly, range(2))[1].replay() == expected(7, 2)[1]

    def test_a_task_after_a_seeded_one_has_no_seed(self, q: Any) -> None:
        assert len(q.options(seed=7).map(draw, range(8)).results(WAIT)) == 8
        for fn in (draw, draw_slowly):
            for error in (q.submit(fn, i).exception(WAIT) for i in range(3)):
                assert isinstance(error, UsageError)
                assert "draw" in str(error)
                assert "q.options(seed=7)" in str(error)

    def test_children_of_a_task_do_not_draw_the_same_numbers(self, q: Any) -> None:
        def fork(i: int) -> list[str]:
            nbqueue.rng()
            context = multiprocessing.get_context("fork")
            with context.Pool(2) as pool:
                return pool.map(try_to_draw, range(4), chunksize=1)

        said = q.options(seed=7).submit(fork, 0).result(WAIT)
        assert all("a child process" in text for text in said)

    def test_outside_of_a_task_there_are_no_numbers(self) -> None:
        with pytest.raises(UsageError, match="submitted with a seed"):
            nbqueue.rng()

    def test_eager_clients_draw_the_same(self) -> None:
        q = eager_client()
        assert q.options(seed=7).map(draw, range(4)).results() == expected(7, 4)
        assert q.options(seed=7).map(draw_slowly, range(4)).results() == expected(7, 4)
        assert isinstance(q.submit(draw, 1).exception(), UsageError)

    @pytest.mark.parametrize("seed", [True, 1.0, "7", -1, np.float64(3), 2**9000, None, [1]])
    def test_a_seed_is_a_whole_number(self, q: Any, seed: Any) -> None:
        if seed is None:
            assert q.options(seed=7).options(seed=None).submit(abs, -1).result(WAIT) == 1
            return
        with pytest.raises(UsageError, match=r"seed="):
            q.options(seed=seed)

    def test_messages_and_schedules_have_none(self, q: Any) -> None:
        with pytest.raises(UsageError, match="is for calls"):
            q.options(seed=7).enqueue("email", b"")
        with pytest.raises(UsageError, match="schedule"):
            q.options(seed=7).schedule(draw, "@daily", args=(1,))

    def test_threads_and_processes_alike(self, lab: Any, q: Any) -> None:
        with lab.worker(executor="thread", queues=["threads"], concurrency=4):
            group = q.options(seed=7, queue="threads").map(draw, range(20))
            assert group.results(WAIT) == expected(7, 20)


def test_an_older_worker_refuses_a_call_with_a_seed(q: Any, monkeypatch: Any) -> None:
    future = q.options(seed=7, queue="closed").submit(draw, 1)
    payload = q._session.broker.find(future.id, "closed").message.payload
    monkeypatch.setattr(payloads, "_CALL_CODECS", frozenset({1, 2}))
    with pytest.raises(nbqueue.SignatureError, match="newer nbqueue knows: upgrade"):
        payloads.parse_call(payload)


def of_modules(i: int) -> list[int]:
    return [
        numbers.randint(2**31),
        np.random.randint(2**31),
        random.randrange(2**31),
        random.getrandbits(31),
    ]


class TestGeneratorsOfModules:
    def repeated(self, found: list[Any]) -> int:
        return len(found) - len(set(found))

    @pytest.mark.parametrize(
        ("fn", "arguments"),
        [
            (np.random.randint, [2**40]),
            (np.random.random, []),
            (np.random.standard_normal, []),
            (random.random, []),
            (random.getrandbits, [60]),
            (random.uniform, [0, 1]),
            (random.SystemRandom().random, []),
            (functools.partial(np.random.randint, 2**40), []),
        ],
    )
    def test_tasks_do_not_repeat_what_others_drew(
        self, q: Any, fn: Callable[..., Any], arguments: list[Any]
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            futures = [q.submit(fn, *arguments) for _ in range(10)]
            futures += [q.submit(apply, fn, arguments) for _ in range(10)]
        assert self.repeated([future.result(WAIT) for future in futures]) == 0

    def test_in_functions_that_use_them(self, q: Any) -> None:
        draw_one = np.random.randint

        def closure(i: int) -> int:
            return int(draw_one(2**40))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            groups = [q.map(fn, range(8)) for fn in (closure, of_modules, closure)]
        assert self.repeated([*groups[0].results(WAIT), *groups[2].results(WAIT)]) == 0
        assert self.repeated([n for row in groups[1].results(WAIT) for n in row]) == 0


def apply(fn: Callable[..., Any], arguments: list[Any]) -> Any:
    return fn(*arguments)


def uses_global(i: int) -> float:
    return float(rng.random())


class Sampler:
    def __init__(self) -> None:
        self.random = random.Random(4)

    def draw(self, i: int) -> float:
        return self.random.random()


def capturing() -> dict[str, Callable[..., Any]]:
    state = np.random.RandomState(5)
    return {
        "the global 'rng'": uses_global,
        "the variable 'state'": lambda i: state.rand(),
        "bound to: attribute 'random'": Sampler().draw,
        "argument 1 of the partial": functools.partial(apply, rng.random),
        "Generator it is bound to": rng.normal,
        "default for the parameter 'own'": lambda i, own=random.Random(1): own.random(),  # noqa: B008
        "calls uses_global(), which uses the global 'rng'": lambda i: uses_global(i),
    }


class TestCapturedGenerators:
    @pytest.mark.parametrize("words", capturing())
    def test_a_warning_names_the_variable_and_the_cure(
        self, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        q = eager_client()
        fn = capturing()[words]
        monkeypatch.setattr(captured_values, "_warned", weakref.WeakKeyDictionary())
        with pytest.warns(RandomStateWarning) as caught:
            [q.map(fn, [1, 2]) for _ in range(2)]
        [warning] = caught
        assert words in str(warning.message)
        assert "q.options(seed=7).map(" in str(warning.message)
        assert warning.filename == __file__

    def test_a_generator_in_several_tasks_of_a_map_is_warned_of(self) -> None:
        q, mine = eager_client(), np.random.default_rng(1)
        for arguments in (
            ([1, 2], itertools.repeat(mine)),
            ([1, 2, 3], [mine, np.random.default_rng(2), mine]),
            ([(1, mine), (2, mine)],),
        ):
            with pytest.warns(RandomStateWarning, match=r"in several tasks") as caught:
                q.map(lambda *args: None, *arguments)
            assert len(caught) == 1

    def test_one_generator_for_each_task_is_fine(self) -> None:
        q = eager_client()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            q.submit(lambda own: own.random(), np.random.default_rng(1)).result()
            group = q.map(lambda own: own.random(), np.random.default_rng(1).spawn(4))
            secure = random.SystemRandom()
            assert 0 <= q.submit(lambda: secure.random()).result() < 1
        assert len(set(group.results())) == 4
