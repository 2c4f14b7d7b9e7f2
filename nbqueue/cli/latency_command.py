"""``nbqueue latency``: serve the waiting times of queues to autoscalers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import click

from nbqueue.cli.parameters import url_option
from nbqueue.errors import NbqueueError, UsageError
from nbqueue.printable import printable
from nbqueue.wire.keys import check_queue_name

if TYPE_CHECKING:
    from nbqueue.client.inspection.inspector import Inspector

_REQUEST_SECONDS = 5.0

Measure = Callable[[], dict[str, dict[str, float]]]


@click.command()
@click.option("-q", "--queue", "queues", multiple=True, metavar="NAME", default=("default",))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; 0.0.0.0 in a container. Answers need no password.",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=9180, show_default=True)
@url_option
def latency(queues: Sequence[str], host: str, port: int, url: str | None) -> None:
    """Serve how long the oldest pending task of each queue has waited.

    Every GET is answered with JSON: latency in seconds, 0 without a pending task, and the number of
    pending and active tasks. It is 503 while the store does not answer. For the scaler metrics-api
    of KEDA.

    \b
    Examples:
      nbqueue latency -q default -q gpu
      curl http://127.0.0.1:9180/
      {"default": {"latency": 12.5, "pending": 4, "active": 8}, "gpu": {...}}
    """
    from nbqueue.client.client import connect

    names = [check_queue_name(name) for name in queues]
    with connect(url or None) as client:
        try:
            server = make_server(host, port, lambda: measured(client.inspector, names))
        except OSError as error:
            raise UsageError(f"--host {host} --port {port}: {error.strerror or error}") from error
        with server:
            click.echo(f"serving the latency of {', '.join(names)} on port {server.server_port}")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass


def measured(inspector: Inspector, queues: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the numbers of these queues; zeros for one that has had no task."""
    found = {info.queue: info for info in inspector.queue_infos() if info.queue in queues}
    numbers: dict[str, dict[str, float]] = {}
    for name in queues:
        info = found.get(name)
        # The tasks of a paused queue wait for a person, not for more workers.
        waits = info is not None and not info.paused
        numbers[name] = {
            "latency": (info.latency or 0.0) if info is not None and waits else 0.0,
            "pending": info.pending if info is not None and waits else 0,
            "active": info.active if info is not None else 0,
        }
    return numbers


def make_server(host: str, port: int, measure: Measure) -> HTTPServer:
    """Return a server that answers each GET with what ``measure`` returns, one at a time."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS

        def do_GET(self) -> None:
            try:
                status, value = 200, json.dumps(measure())
            except NbqueueError as error:
                status, value = 503, json.dumps({"error": printable(str(error))})
            body = value.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing: an autoscaler asks all the time."""

    return HTTPServer((host, port), Handler)
