"""The commands of ``%nbqueue``: start and stop workers, show the store, act on tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.errors import StoreError, TaskGroupNotFound, TaskNotFound
from nbqueue.notebook.live_views import kernel_shell, show
from nbqueue.notebook.local_workers import LocalWorker, local_workers
from nbqueue.notebook.static_card import StartingWorker, StaticCard
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.notices import notices_html, notices_text

if TYPE_CHECKING:
    from nbqueue.client.client import Client
    from nbqueue.client.futures.future import TaskFuture
    from nbqueue.client.futures.group import TaskGroup

_MOST_QUEUES = 50
_SHOWN = ("pending", "active", "scheduled", "retry", "archived", "completed")


def up(client: Client, queues: Mapping[str, int], **options: Any) -> StaticCard | None:
    """Start a worker on this machine and wait until it is ready.

    Workers that run are left alone, if they serve the queues that are asked for; otherwise one is
    started for the others. ``options`` are those of `Worker`. In a notebook the card is
    shown meanwhile, and None is returned.
    """
    workers = local_workers(client)
    running = workers.running()
    served = {queue for worker in running for queue in worker.queues}
    queues = {queue: weight for queue, weight in queues.items() if queue not in served}
    if not queues:
        return _workers_card(client, running, "runs already: %nbqueue restart starts it anew")
    starting = StartingWorker(", ".join(queues))
    shown = show(starting) if kernel_shell() is not None else None
    try:
        worker = workers.start(queues, **options)
        starting.card = card = _workers_card(client, [worker], "is ready")
    except BaseException:
        starting.failed()
        raise
    finally:
        if shown is not None:
            shown.settle()
    return card if shown is None else None


def down(client: Client, *, quiet: bool = False) -> StaticCard | None:
    """End the workers that were started on this machine."""
    ended = local_workers(client).stop()
    if quiet:
        return None
    text = (
        f"{fmt.count(len(ended), 'worker')} ended"
        if ended
        else "no worker was started here that still runs"
    )
    return StaticCard([text], h.card(h.row(h.pale(text)), label="workers"))


def status(client: Client) -> StaticCard:
    """Return a card of the store, its workers and its queues, with a useful command."""
    inspector = client.inspector
    place = client._session.store.url.place
    lines, rows = [f"nbqueue at {place}"], []
    try:
        names = inspector.queues()
        for info in inspector.queue_infos(names[:_MOST_QUEUES]):
            name = info.queue
            counts = (info.pending, info.active, info.scheduled, info.retry, info.archived)
            rows.append(
                [h.strong(name), *(f"{count:,}" for count in counts), f"{info.completed:,}"]
            )
            lines.append(f"  {name}: {info.pending} pending, {info.active} active")
        if len(names) > _MOST_QUEUES:
            lines.append(f"  … and {len(names) - _MOST_QUEUES:,} more queues")
        servers = inspector.servers()
    except StoreError as error:
        return StaticCard([str(error)], h.card(h.problem(str(error)), label="nbqueue"))
    slots = sum(server.concurrency for server in servers)
    workers = f"{fmt.count(len(servers), 'worker')} with {fmt.count(slots, 'slot')}"
    lines.append(f"  {workers}")
    hint = ("%nbqueue panel", "shows more")
    if not servers:
        hint = ("%nbqueue up", "starts workers here")
    why = client._session.obstacles.look_at_store()
    lines += notices_text(why)
    heads = ["queue", *_SHOWN]
    parts = [h.row(h.strong("nbqueue"), h.pale(place)), h.row(workers)]
    if rows:
        caption = "Queues" + (f", {len(rows)} of {len(names):,}" if len(rows) < len(names) else "")
        parts.append(h.table(heads, rows, caption=caption, numeric=range(1, 7)))
    parts += notices_html(why)
    parts.append(h.row(h.code(hint[0]), h.pale(hint[1]), gap=4))
    return StaticCard([*lines, f"  {' '.join(hint)}"], h.card(*parts, label="nbqueue"))


def attach(client: Client, name: str) -> TaskFuture[Any] | TaskGroup[Any]:
    """Return the task with this id or name, else the group."""
    try:
        return client.get(name)
    except TaskNotFound as error:
        try:
            return client.group(name)
        except TaskGroupNotFound:
            raise error from None


def cancel(client: Client, names: Sequence[str]) -> BulkResult:
    """Cancel tasks and the tasks of groups, named by ids or names."""
    return _on_each("cancel", client.cancel, [attach(client, name) for name in names])


def retry(client: Client, names: Sequence[str]) -> BulkResult:
    """Run tasks again with all their retries, and what failed of groups; by ids or names."""
    return _on_each("retry", client.retry, [attach(client, name) for name in names])


def _on_each(
    action: str,
    act: Callable[[Any], BulkResult],
    handles: Sequence[TaskFuture[Any] | TaskGroup[Any]],
) -> BulkResult:
    """Act on the tasks together, and on each group; return all results as one."""
    futures = [handle for handle in handles if not hasattr(handle, "futures")]
    groups = [handle for handle in handles if hasattr(handle, "futures")]
    result = act(futures) if futures else BulkResult(action)
    for each in map(act, groups):
        result.done += each.done
        result.refused |= each.refused
        result.asked += each.asked
        result.trimmed += each.trimmed
    return result


def _workers_card(client: Client, workers: Sequence[LocalWorker], status: str) -> StaticCard:
    parts, lines = [], []
    place = client._session.store.url.place
    for worker in workers:
        queues = ", ".join(
            name if weight == 1 else f"{name}={weight}" for name, weight in worker.queues.items()
        )
        title = f"worker {worker.pid}"
        slots = fmt.count(worker.concurrency, "slot")
        log = _short_path(worker.log)
        lines.append(f"{fmt.badge_text('running')} {title} {status}; {slots}, queues {queues}")
        lines.append(f"  store: {place}, log: {log}")
        parts.append(
            h.row(
                h.badge("running"),
                h.strong(title),
                status,
                h.fact("slots", str(worker.concurrency)),
                h.fact("queues", queues),
            )
        )
        parts.append(h.row(h.fact("store", h.code(place)), h.fact("log", h.code(log))))
    parts.append(h.row(h.code("%nbqueue down"), h.pale("ends it"), gap=4))
    return StaticCard(lines, h.card(*parts, label="workers"))


def _short_path(path: str) -> str:
    """Return a path with ``~`` for the home folder.

    A saved notebook then names no user.
    """
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path
