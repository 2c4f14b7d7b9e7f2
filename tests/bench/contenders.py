"""The peers: requirements, commands of their workers, and settings.

Each has two processes for two CPUs, stores its results, and is set for speed as far as that costs
no promise; `about` describes that in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """A peer, at one setting."""

    name: str
    about: str
    packages: Sequence[str]
    workers: Sequence[str] = ()
    """Command lines with ``{bin}``, ``{python}``, ``{url}`` and ``{here}`` to be filled in.

    None at all: the peer has no store, and its workers are the client's.
    """
    environment: str = ""
    module: str = ""
    tasks: int = 5_000
    bulk: bool = True
    rows: str = "ABCDEFG"

    @property
    def place(self) -> str:
        """The name of its environment."""
        return self.environment or self.name

    @property
    def code(self) -> str:
        """The name of the module that submits to it."""
        return self.module or f"peer_{self.place}"

    @property
    def has_store(self) -> bool:
        return bool(self.workers)


_RQ = "{bin}/rq worker -u {url} -w rq.SimpleWorker -q --disable-job-desc-logging bench"
_NODE = "node {here}/bullmq_node.mjs worker"
_BULLMQ = "{python} {here}/peer_bullmq.py"

CONTENDERS = (
    Contender(
        "nbqueue",
        "a worker of 2 processes; signed, leased, results kept for a day: the defaults",
        ["nbqueue", "redis", "hiredis"],
        ["{python} -m nbqueue.cli.main worker --url {url} -c 2 --log-level error"],
    ),
    Contender(
        "celery",
        "prefork -c 2, prefetch 64, pickle, no events, gossip, mingle or heartbeat",
        ["celery", "kombu", "redis", "hiredis"],
        [
            "{bin}/celery -A peer_celery worker -P prefork -c 2 -l ERROR --without-gossip "
            "--without-mingle --without-heartbeat"
        ],
        tasks=2_000,
    ),
    Contender(
        "rq",
        "2 workers of SimpleWorker (no fork for each job)",
        ["rq", "redis", "hiredis"],
        [_RQ, _RQ],
        tasks=1_000,
    ),
    Contender(
        "dramatiq",
        "2 processes of 5 threads, results, pickle",
        ["dramatiq", "redis", "hiredis"],
        ["{bin}/dramatiq peer_dramatiq -p 2 -t 5 --log-file /dev/null"],
    ),
    Contender(
        "huey",
        "2 processes, notify_result; no bulk interface; keeps no copy of a running task",
        ["huey", "redis", "hiredis"],
        ["{bin}/huey_consumer peer_huey.huey -k process -w 2 -n -q"],
        bulk=False,
    ),
    Contender(
        "arq",
        "2 processes of 10 jobs, polling every 5 ms, results every 2 ms (default 0.5 s)",
        ["arq", "redis", "hiredis", "uvloop"],
        ["{bin}/arq peer_arq.WorkerSettings --custom-log-dict peer_arq.LOG"] * 2,
    ),
    Contender(
        "saq",
        "2 processes of 10 jobs, pickle, results polled every 1 ms (default 0.5 s)",
        ["saq", "redis", "hiredis", "uvloop"],
        ["{bin}/saq peer_saq.settings --workers 2 -q"],
    ),
    Contender(
        "taskiq",
        "list broker, 2 processes, results polled every 2 ms (default 0.2 s); keeps no copy",
        ["taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"],
        ["{bin}/taskiq worker peer_taskiq:broker --workers 2 --no-parse --log-level ERROR"],
        # Its formatter makes JSON of arguments, whatever the serializer.
        rows="ABCDEF",
    ),
    Contender(
        "streaq",
        "2 processes, pickle",
        ["streaq", "coredis"],
        ["{bin}/streaq run peer_streaq:worker --workers 2"],
    ),
    Contender(
        "bullmq (node)",
        "2 processes of concurrency 10, QueueEvents; tasks are JavaScript",
        ["bullmq", "ioredis"],
        [_NODE, _NODE],
        environment="node",
        module="bullmq_node",
        rows="ABCDEF",
    ),
    Contender(
        "bullmq (Python)",
        "2 processes of concurrency 10, QueueEvents; JSON",
        ["bullmq", "redis", "hiredis", "uvloop"],
        [_BULLMQ, _BULLMQ],
        environment="bullmq",
        module="peer_bullmq",
        rows="ABCDEF",
    ),
    Contender(
        "dask",
        "LocalCluster(n_workers=2, threads_per_worker=1)",
        ["distributed", "dask", "cloudpickle"],
    ),
    Contender(
        "ipyparallel",
        "a cluster of 2 engines, load-balanced view",
        ["ipyparallel", "ipykernel", "pyzmq"],
        tasks=1_000,
    ),
    Contender("ray", "ray.init(num_cpus=2)", ["ray"], bulk=False),
    Contender("concurrent.futures", "ProcessPoolExecutor(2)", [], environment="futures"),
    Contender("loky", "joblib's loky pool of 2 processes", ["joblib", "cloudpickle"]),
)
