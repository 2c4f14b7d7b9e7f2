"""``nbqueue store``: show and check the store, find its folder, stop an embedded server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nbqueue.cli.parameters import url_option
from nbqueue.cli.text_output import print_tabbed, say
from nbqueue.errors import NbqueueError

if TYPE_CHECKING:
    from pathlib import Path

    from nbqueue.store.url import StoreURL


@click.group("store")
def store() -> None:
    """Show and check the store, or stop an embedded one."""


@store.command("status")
@url_option
def show_status(url: str | None) -> None:
    """Show where the store is, and whether it runs.

    Starts no server. A running one is asked for its version, and for features that it lacks.
    """
    place = _place(url)
    rows = _embedded_rows(place) if place.scheme == "embedded" else _server_rows(place)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")


@store.command("stop")
@url_option
def stop(url: str | None) -> None:
    """Stop the embedded server. Its tasks stay, and the next use starts it again."""
    from nbqueue.store.embedded import stop_server

    directory = _directory(_place(url), "stops only servers that nbqueue started")
    try:
        stopped = stop_server(directory)
    except NbqueueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Stopped the server of {directory}." if stopped else "No server was running.")


@store.command("path")
@url_option
def show_path(url: str | None) -> None:
    """Print the folder of the embedded store, and nothing else."""
    click.echo(_directory(_place(url), "a store elsewhere has no folder here"))


@store.command("check")
@url_option
def check(url: str | None) -> None:
    """List records that cannot be read, and queues whose names nbqueue cannot serve.

    Prints a line for each: the queue, the key, and the fault. Exits with 1 if there is any.
    """
    from nbqueue.client.client import connect

    client = connect(url or None)
    number = 0
    try:
        for fault in client.inspector.faults():
            number += 1
            queue = "-" if fault.queue is None else fault.queue
            print_tabbed((queue, fault.key, fault.text))
    finally:
        client.close()
    if number:
        sys.exit(1)
    click.echo("Everything in the store can be read.")


def _place(url: str | None) -> StoreURL:
    from nbqueue.store.default_store import default_url
    from nbqueue.store.url import parse_url

    try:
        return parse_url(url) if url and url.strip() else default_url()
    except NbqueueError as error:
        raise click.ClickException(str(error)) from error


def _directory(place: StoreURL, otherwise: str) -> Path:
    from nbqueue.store.connection import Store

    directory = Store(place).directory
    if directory is None:
        raise click.ClickException(f"{place.redacted} is no embedded store: {otherwise}.")
    return directory


def _embedded_rows(place: StoreURL) -> list[tuple[str, str]]:
    from nbqueue.store.embedded import status

    try:
        found = status(_directory(place, ""))
    except NbqueueError as error:
        raise click.ClickException(str(error)) from error
    server = f"{found.product} {found.version} ({found.binary})" if found.version else "none so far"
    rows = [
        ("store", place.redacted),
        ("running", f"yes, process {found.pid}" if found.running else "no"),
        ("server" if found.running else "last server", server),
        ("folder", str(found.directory)),
        ("socket", str(found.socket)),
        ("data", _size(found.data_bytes)),
    ]
    return rows + _lacks(place) if found.running else rows


def _lacks(place: StoreURL) -> list[tuple[str, str]]:
    import warnings

    from nbqueue.errors import StoreWarning
    from nbqueue.store.connection import connect
    from nbqueue.store.server_support import describe

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)  # `describe` lists them
        try:
            with connect(place) as found:
                return describe(found)
        except NbqueueError as error:
            return [("problem", str(error))]


def _server_rows(place: StoreURL) -> list[tuple[str, str]]:
    from nbqueue.store.connection import connect

    try:
        with connect(place) as found:
            version = ".".join(map(str, found.server_version))
            server = f"{found.product}, as Redis {version}" if found.product != "redis" else version
            master = [("master", found.server)] if place.is_sentinel else []
    except NbqueueError as error:
        raise click.ClickException(str(error)) from error
    rows = [("store", place.redacted), ("running", "yes"), *master, ("version", server)]
    return rows + _lacks(place)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
