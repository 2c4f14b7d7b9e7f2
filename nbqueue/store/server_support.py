"""Report missing features of a running server, and their consequences."""

from __future__ import annotations

from collections.abc import Mapping

from nbqueue.sizes import format_size
from nbqueue.store.connection import Store
from nbqueue.store.server_facts import info_of, pairs_of

_QUESTIONS = (
    ("INFO", "persistence"),
    ("INFO", "memory"),
    ("CONFIG", "GET", "appendonly"),
    ("CONFIG", "GET", "appendfsync"),
    ("CONFIG", "GET", "save"),
    ("CONFIG", "GET", "maxmemory-policy"),
    ("CONFIG", "GET", "tls-port"),
)
_NEARLY_FULL = 0.9


def lacks_of(store: Store) -> list[str]:
    """Return a sentence for each feature that the server of ``store`` lacks."""
    persistence, memory, *configs = store.ask(*_QUESTIONS)
    settings: dict[str, str] = {}
    for answer in configs:
        settings |= pairs_of(answer)
    info = info_of(persistence)
    found = [
        *_memory(info_of(memory)),
        *_durability(store, settings, info),
        *_versions(store),
    ]
    policy = settings.get("maxmemory-policy")
    if policy not in (None, "noeviction"):
        found.append(
            f"maxmemory-policy is {policy}: a full server throws keys away, and tasks with them; "
            "set it to noeviction"
        )
    if store.directory is None and not settings:
        found.append("CONFIG is hidden from this user: its persistence and policy are not known")
    fault = store.quorum_fault()
    if fault:
        found.append(f"a quorum for a failover: {fault}")
    if store.directory is None and store.url.hosts and not store.url.uses_tls:
        has_tls = settings.get("tls-port", "0") != "0"
        scheme = store.url.scheme.replace("redis", "rediss", 1)
        way = (
            f"connect with {scheme}:// to its tls-port"
            if has_tls
            else "it listens without TLS only"
        )
        if store.url.hosts[0][0] not in ("localhost", "127.0.0.1", "::1"):
            found.append(f"TLS: what is sent can be read on the network; {way}")
    return found


def _durability(store: Store, settings: Mapping[str, str], info: Mapping[str, str]) -> list[str]:
    has_file = settings.get("appendonly") or {"0": "no", "1": "yes"}.get(
        info.get("aof_enabled", "")
    )
    if has_file == "no":
        how = "snapshots only" if settings.get("save") else "persistence is off"
        lost = "what came since the last one" if settings.get("save") else "everything"
        return [f"an append-only file ({how}): a crash loses {lost}; set appendonly to yes"]
    policy = settings.get("appendfsync")
    if policy in ("everysec", "no"):
        lost = "up to about a second" if policy == "everysec" else "some 30 seconds"
        return [
            f"a sync of each write (appendfsync {policy}): a crash of its machine loses {lost}; "
            "see docs/durability.md"
        ]
    return []


def _memory(info: Mapping[str, str]) -> list[str]:
    used, most = (info.get(name, "") for name in ("used_memory", "maxmemory"))
    if not (used.isdecimal() and most.isdecimal()) or int(used) < _NEARLY_FULL * int(most):
        return []
    if int(most) == 0:  # 0 means no limit
        return []
    return [
        f"memory: it uses {format_size(int(used))} of the {format_size(int(most))} that its "
        "maxmemory allows, and refuses tasks when full; raise maxmemory, or delete old tasks"
    ]


def _versions(store: Store) -> list[str]:
    version = store.server_version
    found = []
    if version < (7, 0, 0):
        found.append("sharded channels (Redis 7.0): every node of a cluster gets every message")
    if version < (7, 2, 0):
        found.append(
            "WAITAOF (Redis 7.2): durability='fsync' needs appendfsync always, for all its clients"
        )
    return found


def describe(store: Store) -> list[tuple[str, str]]:
    """Return rows of names and values about missing features.

    The first row names the server.
    """
    lacks = lacks_of(store)
    return [("lacks" if i == 0 else "", each) for i, each in enumerate(lacks or ["nothing"])]
