"""The files in docs/deploy agree with each other, with the command line and with the worker."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from nbqueue.cli.worker_command import worker
from nbqueue.durations import parse_duration
from nbqueue.worker import supervisor
from nbqueue.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs" / "deploy"


def settings(arguments: str) -> dict[str, object]:
    """Return the options of `nbqueue worker`, which must take these arguments."""
    words = shlex.split(arguments)
    assert words.pop(0) == "worker"
    context: click.Context = worker.make_context("worker", words)
    options = dict(context.params)
    options["queues"] = dict(options["queues"])
    WorkerSettings(**options)
    return options


def seconds_to_end(options: dict[str, object]) -> float:
    """Return the longest time from SIGTERM to the end of a worker with these options."""
    made = WorkerSettings(**options)
    return made.shutdown_seconds + made.kill_grace_seconds + supervisor._LAST_SENDING


def unit(name: str) -> dict[str, list[str]]:
    """Return the directives of a unit, each with its values."""
    directives: dict[str, list[str]] = {}
    for line in (FILES / name).read_text().splitlines():
        if line and line[0] not in "#[":
            directive, _, value = line.partition("=")
            directives.setdefault(directive, []).append(value)
    return directives


def variables(name: str) -> dict[str, str]:
    lines = (FILES / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def test_the_page_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"\]\(deploy/([^)]+)\)", (ROOT / "docs" / "deploy.md").read_text()))
    assert named == {path.name for path in FILES.iterdir()}


def test_the_unit_starts_a_worker_and_gives_it_time_to_end() -> None:
    directives = unit("nbqueue-worker@.service")
    [command] = directives["ExecStart"]
    program, _, arguments = command.partition(" ")
    options = settings(
        arguments.replace("$WORKER_OPTIONS", variables("default.env")["WORKER_OPTIONS"])
    )
    assert program == "/opt/nbqueue/bin/nbqueue"
    assert seconds_to_end(options) < parse_duration(directives["TimeoutStopSec"][0])
    assert directives["Type"] == ["notify"]
    assert parse_duration(directives["WatchdogSec"][0]) >= 30
    assert directives["OOMPolicy"] == ["continue"]
    assert set(variables("store.env")) == {"NBQUEUE_URL", "NBQUEUE_KEY"}
    files = ["/etc/nbqueue/store.env", "/etc/nbqueue/%i.env"]
    assert directives["EnvironmentFile"] == files
    assert not re.search(r"(?i)key|url|password", command)
