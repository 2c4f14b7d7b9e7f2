"""`Worker`, ``nbqueue worker`` and ``%nbqueue up`` take the options that the settings declare."""

from __future__ import annotations

import inspect
from dataclasses import asdict, fields, replace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import nbqueue
from nbqueue.cli.main import main
from nbqueue.errors import UsageError
from nbqueue.notebook.magic_arguments import make_parser, worker_options
from nbqueue.worker.settings import WorkerOptions, WorkerSettings

DECLARED = {each.name: each.default for each in fields(WorkerOptions)}
OF_WORKER_ONLY = {"log", "retry_delay", "retry_on", "is_failure", "health_check"}


def test_a_worker_takes_each_option_by_name_with_its_default() -> None:
    taken = inspect.signature(nbqueue.Worker).parameters
    assert set(taken) == set(DECLARED) | OF_WORKER_ONLY
    assert {name: taken[name].default for name in DECLARED} == DECLARED
    kinds = {name: each.kind for name, each in taken.items()}
    assert kinds.pop("url") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("size", "kept"), [(5 * 10**8, 5 * 10**8), ("512MB", 512 * 10**6), ("2GiB", 2**31)]
)
def test_memory_of_an_executor_is_a_size(size: int | str, kept: int) -> None:
    assert nbqueue.Worker(memory_per_executor=size).settings.memory_per_executor == kept


@pytest.mark.parametrize("size", [0, -1, "much", "0", 1.5, b"2GB"])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="memory_per_executor="):
        nbqueue.Worker(memory_per_executor=size)


def test_an_option_that_there_is_not_is_refused_in_the_name_of_the_worker() -> None:
    with pytest.raises(TypeError, match=r"^Worker\.__init__\(\) got an unexpected .*'nonsense'"):
        nbqueue.Worker(nonsense=1)  # type: ignore[call-arg]


def test_the_command_line_has_only_declared_options_and_their_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = main.get_command(click.Context(main), "worker")
    assert command is not None
    assert {param.name for param in command.params} <= set(DECLARED)
    made: list[WorkerSettings] = []

    def run(self: nbqueue.Worker) -> int:
        made.append(self.settings)
        return 0

    monkeypatch.setattr(nbqueue.Worker, "run", run)
    result = CliRunner().invoke(main, ["worker"], env={"NBQUEUE_URL": ""})
    assert result.exit_code == 0, result.output
    # A person at a terminal would rather wait a minute than start it again.
    assert made == [replace(nbqueue.Worker().settings, wait=60.0)]


def test_the_magic_has_only_declared_options() -> None:
    words = [
        "up",
        "-n",
        "3",
        "-q",
        "a=2,b",
        "--executor",
        "thread",
        "--with-kernel",
        "--idle",
        "1m",
    ]
    options = worker_options(make_parser().parse_args(words))
    assert set(options) <= set(DECLARED)
    settings = nbqueue.Worker(**options).settings
    assert (settings.queues, settings.concurrency) == ({"a": 2, "b": 1}, 3)
    assert (settings.executor, settings.idle_timeout) == ("thread", 60)
    assert settings.owner
    assert nbqueue.Worker(**worker_options(make_parser().parse_args(["up"]))).settings == (
        nbqueue.Worker().settings
    )


def test_what_is_registered_does_not_change_the_options() -> None:
    worker = nbqueue.Worker(lease="1m", group_max_size=7)
    worker.handle("mail", print)
    now = worker._settings_now()
    assert now.patterns == (("mail", False),)
    assert replace(now, service=b"", patterns=()) == worker.settings
    assert WorkerSettings.of(now) == worker.settings


@pytest.mark.parametrize("name", ["burst", "scheduler", "strict_priority"])
def test_a_choice_of_two_is_true_or_false(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}='no' must be True or False"):
        WorkerOptions(**{name: "no"})


@pytest.mark.parametrize("given", ["1..8", (1, 8), [1, 8]])
def test_autoscale_has_the_least_and_the_most_executors(given: Any) -> None:
    settings = nbqueue.Worker(autoscale=given).settings
    assert (settings.least_executors, settings.concurrency) == (1, 8)
    assert WorkerSettings(**asdict(settings)) == settings, "as a started worker gets them"


@pytest.mark.parametrize(
    "given", ["", "8", "8..1", "0..3", "1..x", "²..3", "1..2..3", (1,), 3, "1" * 50]
)
def test_an_autoscale_that_is_no_range_is_refused_by_name(given: Any) -> None:
    with pytest.raises(UsageError, match=r"autoscale=.*such as '1\.\.8'"):
        nbqueue.Worker(autoscale=given)


def test_autoscale_excludes_a_concurrency_and_threads() -> None:
    with pytest.raises(UsageError, match="leave concurrency out"):
        nbqueue.Worker(autoscale="1..8", concurrency=4)
    with pytest.raises(UsageError, match="executor='process'"):
        nbqueue.Worker(autoscale="1..8", executor="thread")
    result = CliRunner().invoke(main, ["worker", "--autoscale", "8..1"])
    assert "--autoscale='8..1' must be the least and the most" in result.output
