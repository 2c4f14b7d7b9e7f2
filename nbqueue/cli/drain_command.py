"""``nbqueue drain``: have running workers end after their tasks."""

from __future__ import annotations

from collections.abc import Sequence

import click

from nbqueue.cli.parameters import url_option
from nbqueue.cli.text_output import say
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean
from nbqueue.printable import shown


@click.command()
@click.argument("workers", nargs=-1, required=True, metavar="WORKER...")
@url_option
def drain(workers: Sequence[str], url: str | None) -> None:
    """Have workers fetch nothing more, finish their tasks, however long they take, and end.

    WORKER is the id of a worker, or the name of a host, for all of its workers. Returns when the
    workers have stopped fetching. SIGTERM then ends them after their shutdown time-out.

    \b
    Examples:
      nbqueue drain gpu-7
      nbqueue drain gpu-7:4711:9f3c0a5be1d24c07a8f6b2c1
    """
    from nbqueue.broker.broker import Broker
    from nbqueue.broker.commands.presence import drain_worker
    from nbqueue.broker.reads.asynq_records import AsynqRecords
    from nbqueue.store.connection import connect

    store = connect(url or None)
    broker = Broker(store)
    try:
        servers = AsynqRecords(broker).servers()
        hosts = {f"{each.host}:{each.pid}:{each.id}": each.host for each in servers}
        chosen: dict[str, None] = {}
        for name in workers:
            found = [each for each, host in hosts.items() if name in (each, host)]
            if not found:
                question = did_you_mean(name, [*hosts, *hosts.values()])
                more = f": {question}" if question else ", or they are at another store"
                raise UsageError(f"no worker has the id or host {shown(name)}{more}")
            chosen.update(dict.fromkeys(found))
        for worker_id in chosen:
            running = drain_worker(broker, worker_id)
            say(f"{worker_id} ends after {running} {'task' if running == 1 else 'tasks'}")
    finally:
        broker.close()
        store.close()
