"""Check what a store guarantees after it acknowledges a write.

See docs/durability.md.
"""

from __future__ import annotations

from typing import Any, Final

from nbqueue.errors import StoreUnsuitable
from nbqueue.names import not_among
from nbqueue.store import embedded_folder
from nbqueue.store.connection import Store
from nbqueue.store.server_facts import info_of, pairs_of
from nbqueue.store.url import StoreURL
from nbqueue.transport.confirmation import ON_DISK, ON_REPLICA

DURABILITIES: Final = (None, "fsync", "replicated")

_QUESTIONS: Final = (
    ("CONFIG", "GET", "appendonly"),
    ("CONFIG", "GET", "appendfsync"),
    ("INFO", "persistence"),
    # Returns at once if the server supports WAITAOF: nothing was written on this connection.
    ("WAITAOF", "1", "0", "1000"),
)


def check_durability(durability: str | None, url: StoreURL) -> None:
    """Raise `UsageError` for an unknown level, `StoreUnsuitable` for one that ``url`` excludes."""
    if durability not in DURABILITIES:
        raise not_among("durability", durability, ("fsync", "replicated"))
    if durability == "replicated" and url.scheme == "embedded":
        raise StoreUnsuitable(
            f"durability='replicated': an embedded store has no replicas ({url.redacted}). "
            "durability='fsync' confirms what is on its disk"
        )


def ensure_durability(store: Store, durability: str | None) -> None:
    """Make a store guarantee ``durability``.

    An embedded server is configured for it. Any other server must already be: otherwise this raises
    `StoreUnsuitable`, which names the setting to change.
    """
    check_durability(durability, store.url)
    if durability is None:
        return
    if store.nodes is not None:
        for node in store.nodes.masters():
            ensure_durability(node, durability)
            store.confirmation = node.confirmation or store.confirmation
        return
    if durability == "replicated":
        _check_replicas(store)
        store.confirmation = ON_REPLICA
        return
    if store.directory is not None:
        _set_up(store)
    append_only, append_fsync, persistence, waited = store.ask(*_QUESTIONS)
    has_file = pairs_of(append_only).get("appendonly")
    has_file = has_file or {"0": "no"}.get(info_of(persistence).get("aof_enabled", ""))
    policy = pairs_of(append_fsync).get("appendfsync")
    if has_file != "no" and policy == "always":
        return
    if has_file != "no" and isinstance(waited, list):
        store.confirmation = ON_DISK
        return
    raise StoreUnsuitable(_refusal(store, has_file, policy, waited))


def _check_replicas(store: Store) -> None:
    """Raise `StoreUnsuitable` if the server accepts writes that no replica can get."""
    [answer] = store.ask(("CONFIG", "GET", "min-replicas-to-write"))
    if pairs_of(answer).get("min-replicas-to-write") == "0":
        raise StoreUnsuitable(
            f"durability='replicated': the store {store.url.redacted} accepts writes without a "
            "replica. Set min-replicas-to-write to 1 on the master and its replicas (CONFIG SET "
            "min-replicas-to-write 1, and in redis.conf); or connect with durability=None"
        )


def _set_up(store: Store) -> None:
    assert store.directory is not None
    # First, so that a server which starts meanwhile uses it as well.
    embedded_folder.note_fsync_always(embedded_folder.real(store.directory))
    store.ask(("CONFIG", "SET", "appendfsync", "always"))


def _refusal(store: Store, has_file: str | None, policy: str | None, waited: Any) -> str:
    place = store.url.redacted
    if has_file == "no":
        return (
            f"durability='fsync': the store {place} writes no append-only file, so a crash loses "
            "what came since its last snapshot. Set appendonly to yes (CONFIG SET appendonly yes, "
            "and in redis.conf)"
        )
    version = ".".join(map(str, store.server_version))
    if policy is None:
        reason = f"does not say what its appendfsync is, and cannot wait for its disk ({waited})"
        # Without WAITAOF, the guarantee is only visible in the server's settings.
        way = "Grant its user +config|get"
        way += (
            " +waitaof" if store.server_version >= (7, 2, 0) else ", and set appendfsync to always"
        )
    else:
        reason = f"syncs its append-only file by appendfsync {policy}, and cannot confirm a write"
        reason += f": {waited}" if store.server_version >= (7, 2, 0) else f", as Redis {version}"
        way = (
            "Set appendfsync to always (CONFIG SET appendfsync always, and in redis.conf), or use "
            "Redis 7.2 or newer, which has WAITAOF"
        )
    return f"durability='fsync': the store {place} {reason}. {way}; or connect with durability=None"
