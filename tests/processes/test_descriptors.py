"""A process that may open few files: its errors and its recovery."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nbqueue.worker.served_queues import ServedQueues

_MANY = [word for i in range(300) for word in ("-q", f"team-{i}")]


def _limited(limits: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with limits of descriptors, such as ``-n 256`` or ``-Sn 256``."""
    script = f'ulimit {limits} && exec "$0" "$@"'
    return subprocess.run(
        ["bash", "-c", script, sys.executable, *words], capture_output=True, text=True, timeout=60
    )


def test_a_worker_says_how_many_descriptors_its_queues_need(store_url: str) -> None:
    words = ("-m", "nbqueue.cli.main", "worker", "--burst", "-c", "1", "--url", store_url)
    done = _limited("-n 256", *words, *_MANY)
    assert done.returncode == 2
    [line] = [each for each in done.stderr.splitlines() if "INFO" not in each]
    assert line == (
        "Error: a worker of 300 queues needs about 337 file descriptors, and the limit is 256: "
        "raise it with `ulimit -n` (LimitNOFILE= in systemd), "
        "or spread the queues over more workers"
    )


def test_a_worker_raises_its_soft_limit_and_names_few_of_its_queues(store_url: str) -> None:
    words = ("-m", "nbqueue.cli.main", "worker", "--burst", "-c", "1", "--url", store_url)
    done = _limited("-Sn 256", *words, *_MANY)
    assert done.returncode == 0, done.stderr
    [ready] = [line for line in done.stderr.splitlines() if "worker ready" in line]
    assert "team-19=1 and 280 more concurrency=1" in ready
    assert "team-20" not in ready


@pytest.mark.parametrize("first", ["import redis, nbqueue.transport.connect", "pass"])
def test_a_client_without_descriptors_says_so(store_url: str, first: str) -> None:
    code = f"""
import os, sys
import nbqueue, nbqueue.client.client, nbqueue.store.connection
{first}
opened = []
try:
    while True:
        opened.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    nbqueue.store.connection.connect(sys.argv[1])
except nbqueue.StoreUnreachable as error:
    print(error)
"""
    done = _limited("-n 128", "-c", code, store_url)
    assert "too many open files (it may have 128)" in done.stdout, done.stderr
    assert "`ulimit -n`" in done.stdout


def test_few_queues_are_all_named() -> None:
    assert str(ServedQueues({"a": 1, "b": 2})) == "a=1,b=2"
    assert str(ServedQueues({f"q{i}": 1 for i in range(21)})).endswith("q19=1 and 1 more")
