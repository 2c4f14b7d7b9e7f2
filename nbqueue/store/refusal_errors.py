"""Exceptions for commands that a store refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from nbqueue.errors import (
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    StoreUnsuitable,
)
from nbqueue.store.rights import is_about_keys, missing_right
from nbqueue.store.url import StoreURL
from nbqueue.transport.refusals import is_moved, is_not_ready
from nbqueue.transport.resp import Arg, ReplyError


class KeyDenied(StoreDenied, StoreDamaged):
    """The store's user may not use a key.

    Readers of many keys treat such a key as one that they cannot read.
    """


_CAUSES: Final = {
    "LOADING": "it is still reading its data",
    "MASTERDOWN": "it is a replica that lost its master",
    "READONLY": "it is a replica, which cannot be written to",
    "MAXCLIENTS": "it has as many clients as its maxclients allows",
    "BUSY": "it is busy with a script",
    "NOREPLICAS": "too few of its replicas are connected (min-replicas-to-write)",
    "KILLED": "somebody ended the script (SCRIPT KILL)",
}


_MOST_SHOWN: Final = 3


def damage(keys: Sequence[Arg]) -> StoreDamaged:
    """Return the exception for a command with one of ``keys`` of a wrong type."""
    names = [key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key) for key in keys]
    # The keys of a queue rather than those of tasks, so that all its tasks share a log line.
    names = [repr(name) for name in names if ":t:" not in name] or list(map(repr, names))
    if not names:
        subject = "a key of the store"
    elif len(names) == 1:
        subject = names[0]
    else:
        more = ", …" if len(names) > _MOST_SHOWN else ""
        subject = f"one of the keys {', '.join(names[:_MOST_SHOWN])}{more}"
    way = "" if len(names) == 1 else "; `nbqueue store check` says which"
    return StoreDamaged(f"{subject} holds something else than its name says{way}")


def refusal_error(error: ReplyError, url: StoreURL, keys: Sequence[Arg] = ()) -> StoreError:
    """Return the exception for a command that the store at ``url`` refused.

    It names the cause and what can be done about it.
    """
    text, reason = str(error), error.reason
    sentence = text.rstrip(". ")
    if is_not_ready(error):
        cause = _CAUSES.get(reason)
        shown = f"{cause} ({text})" if cause else text
        return StoreUnreachable(f"The store is not ready: {shown}")
    if is_moved(error):
        return cluster_error(url, text)
    if reason == "NOPERM":
        kind = KeyDenied if is_about_keys(text) else StoreDenied
        return kind(missing_right(url, text))
    if reason in {"NOAUTH", "WRONGPASS", "DENIED"}:
        return StoreDenied(
            f"The store refuses: {sentence}. Check the user and password in its URL."
        )
    if reason == "OOM":
        return StoreUnsuitable(
            f"The store is full: {sentence}. Raise maxmemory, or delete tasks that nobody needs."
        )
    if reason == "MISCONF":
        return StoreUnsuitable(
            f"The store cannot write to its disk: {text} Make room on it, or mend its rights."
        )
    if "WRONGTYPE" in text:
        return StoreDamaged(f"{damage(keys)} (WRONGTYPE)")
    return StoreError(f"The store refused a command: {text}")


def cluster_error(url: StoreURL, text: str) -> StoreUnsuitable:
    """Return the exception for a server with only some of the keys."""
    return StoreUnsuitable(
        f"the server {url.redacted} is part of a Redis Cluster and holds only some of the keys "
        f"({text}). Write {_cluster_url(url).redacted}"
    )


def _cluster_url(url: StoreURL) -> StoreURL:
    """Return the URL of the cluster to which a server belongs."""
    return replace(url, scheme="rediss+cluster" if url.uses_tls else "redis+cluster", db=0)
