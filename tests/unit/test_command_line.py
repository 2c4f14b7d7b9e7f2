"""The command line: its arguments and its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import nbqueue
from nbqueue.cli.main import main
from nbqueue.cli.parameters import QUEUE, SIZE, SPAN
from nbqueue.worker import worker as worker_module


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize(
    ("text", "value"),
    [("critical=6", ("critical", 6)), ("default", ("default", 1)), ("a=b=2", ("a=b", 2))],
)
def test_a_queue_is_a_name_and_a_weight(text: str, value: tuple[str, int]) -> None:
    assert QUEUE.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512 * 10**6), ("2GiB", 2 * 2**30), ("1.5k", 1500), ("100", 100), ("7 b", 7)],
)
def test_a_size_is_a_number_of_bytes(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (QUEUE, "a=0"),
        (QUEUE, "a=x"),
        (QUEUE, "a="),
        (QUEUE, ""),
        (QUEUE, "a/b"),
        (SIZE, "big"),
        (SIZE, "0"),
        (SIZE, "-1MB"),
        (SPAN, "10 minuts"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


def test_all_options_of_a_worker_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def serve(self: Any) -> int:
        made.append(self.settings)
        return 0

    monkeypatch.setattr(worker_module.Worker, "run", serve)
    line = "worker -q critical=6 -q default=3 -c 8 --executor thread --strict --lease 1m"
    more = "--url redis://u:1/0 --shutdown-timeout 10m"
    more += " --tasks-per-executor 5 --memory-per-executor 512MB"
    more += " --health-file f --log-level WARNING --wait 2m"
    result = run(*line.split(), *more.split())
    assert result.exit_code == 0, result.output
    [settings] = made
    assert settings.queues == {"critical": 6, "default": 3}
    assert (settings.concurrency, settings.executor, settings.url) == (
        8, "thread", "redis://u:1/0",
    )  # fmt: skip
    assert (settings.lease_seconds, settings.shutdown_seconds) == (60, 600)
    assert (settings.tasks_per_executor, settings.memory_per_executor) == (5, 512 * 10**6)
    assert settings.strict_priority
    assert settings.wait_seconds == 120
    assert (settings.health_file, settings.log_level) == ("f", "warning")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["worker", "-q", "a", "-q", "a=2"], 2, "named twice"),
        (["worker", "--lease", "0.1"], 2, "must be 1 s or more"),
        (["worker", "--url", "nonsense"], 2, "no known scheme"),
        (["worker", "--url", "unix:///nowhere/redis.sock", "--wait", "0"], 1, "cannot be reached"),
        (["nope"], 2, "No such command"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(words: list[str], code: int, said: str) -> None:
    result = run(*words)
    assert result.exit_code == code
    [line] = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert said in line
    assert "Traceback" not in result.output


def test_a_worker_is_well_if_its_health_file_is_fresh(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    missing = run("health", str(file))
    assert (missing.exit_code, "no worker is well" in missing.output) == (1, True)
    file.touch()
    fresh = run("health", str(file))
    assert (fresh.exit_code, fresh.output.startswith("well")) == (0, True)
    os.utime(file, (1e9, 1e9))
    stale = run("health", str(file), "--within", "1m")
    assert (stale.exit_code, "no sign of life" in stale.output) == (1, True)


def test_version_and_help() -> None:
    assert nbqueue.__version__ in run("--version").output
    for words in ([], ["worker"], ["demo"], ["health"], ["store"]):
        result = run(*words, "--help")
        assert result.exit_code == 0
        assert "Usage:" in result.output
    # In a process of its own: click keeps the names of a command's help option from its first use,
    # which in another test may be one without nbqueue's -h.
    command = [Path(sys.executable).with_name("nbqueue"), "worker", "-h"]
    assert "Usage:" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "words",
    [
        ("task", "cancel", "caf\udce9"),
        ("logs", "caf\udce9"),
        ("--url", "caf\udce9"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_named(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "'caf\\udce9' is not text in UTF-8" in result.output
