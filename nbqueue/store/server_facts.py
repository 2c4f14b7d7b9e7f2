"""Identify a server by its replies, and explain its errors."""

from __future__ import annotations

import contextlib
from typing import Any

from nbqueue.errors import StoreDenied, StoreError, StoreUnreachable, StoreUnsuitable
from nbqueue.store import descriptors
from nbqueue.store.rights import missing_right
from nbqueue.store.server_programs import OLDEST
from nbqueue.store.url import StoreURL

_TOO_MANY = "max number of clients"


class ServerFacts:
    """A server's version and properties. Raises StoreError if it is unsuitable."""

    def __init__(self, url: StoreURL, answers: list[Any]) -> None:
        is_forbidden = False
        for answer in answers:
            if isinstance(answer, Exception):
                from redis.exceptions import AuthenticationError, NoPermissionError

                if isinstance(answer, AuthenticationError):
                    raise store_error(url, answer)
                is_forbidden |= answer is answers[1] and isinstance(answer, NoPermissionError)
        _, info, hello, policy = answers
        told = info_of(info)
        greeting = pairs_of(hello)
        self.policy = pairs_of(policy).get("maxmemory-policy")
        self.product = "valkey" if "valkey_version" in told else greeting.get("server", "redis")
        if not told and not greeting and not is_forbidden:
            raise StoreUnsuitable(
                f"{url.redacted} does not say that it is a Redis: it answers INFO with {info!r}. "
                "Check the host and the port"
            )
        # Valkey has its own version numbers; 7.2.4 is where it forked from Redis.
        like = "7.2.4" if self.product == "valkey" else greeting.get("version")
        self.version = _version(told.get("redis_version") or like)
        if self.version < OLDEST:
            raise StoreUnsuitable(
                f"the store {url.redacted} is Redis {'.'.join(map(str, self.version))}, and "
                "nbqueue needs 6.2 or newer. Upgrade the server, or use another, such as an "
                "embedded one: nbqueue.connect('embedded://default')"
            )
        if "sentinel" in (told.get("redis_mode"), greeting.get("mode")):
            raise StoreUnsuitable(
                f"{url.redacted} is a Sentinel, which holds no data. Write "
                "redis+sentinel://host:26379/master, or the redis:// URL of the master itself"
            )
        _check_role(url, greeting)


def check_served(reply: Any) -> None:
    """Raise the server's error if it executes no commands at all.

    A refusal of a single command, for a missing permission, is ignored here.
    """
    if isinstance(reply, Exception):
        from redis.exceptions import AuthenticationError

        if isinstance(reply, AuthenticationError) or _TOO_MANY in str(reply):
            raise reply


def check_answers(url: StoreURL, pong: Any, hello: Any) -> None:
    """Raise `StoreError` if the replies to PING and HELLO refuse service."""
    if isinstance(pong, Exception):
        from redis.exceptions import AuthenticationError, BusyLoadingError, MasterDownError

        if isinstance(pong, BusyLoadingError):
            raise StoreUnreachable(f"the store {url.redacted} is still reading its data")
        if isinstance(pong, (AuthenticationError, MasterDownError)):
            raise store_error(url, pong)
    _check_role(url, pairs_of(hello))


def _check_role(url: StoreURL, greeting: dict[str, str]) -> None:
    if greeting.get("role") in ("replica", "slave"):
        raise StoreUnsuitable(
            f"the store {url.redacted} is a replica, which cannot be written to. Use the "
            "URL of its master"
        )


def info_of(reply: Any) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def pairs_of(reply: Any) -> dict[str, str]:
    if not isinstance(reply, list):
        return {}
    words = [each.decode(errors="replace") if isinstance(each, bytes) else "" for each in reply]
    return dict(zip(words[::2], words[1::2], strict=False))


def _version(text: str | None) -> tuple[int, int, int]:
    numbers = list(OLDEST) if text is None else [0, 0, 0]
    with contextlib.suppress(ValueError):
        for place, part in enumerate((text or "").split(".")[:3]):
            numbers[place] = int(part)
    return numbers[0], numbers[1], numbers[2]


def store_error(url: StoreURL, error: Exception) -> StoreError:
    """Convert an error of redis-py or the system to a `StoreError` about ``url``."""
    if descriptors.ran_out(error):  # before the import below, which needs a descriptor
        return descriptors.unreachable(url.redacted)
    import redis
    from redis.exceptions import AuthenticationWrongNumberOfArgsError, InvalidResponse

    place, said = url.redacted, str(error).strip(". ") or type(error).__name__
    if isinstance(error, AuthenticationWrongNumberOfArgsError):
        return StoreUnsuitable(
            f"the store {place} knows no users, so it is older than Redis 6; nbqueue needs 6.2"
        )
    if isinstance(error, redis.exceptions.NoPermissionError):
        return StoreDenied(f"{place}: {missing_right(url, said)}")
    if _TOO_MANY in said:
        way = "Raise its maxclients"
        if url.scheme == "embedded":
            way = "Raise `ulimit -n`, which bounds them, and start it anew (`nbqueue store stop`)"
        return StoreUnreachable(
            f"the store {place} takes no more connections: {said}. {way}, or close clients that "
            "nobody needs"
        )
    denied = isinstance(error, redis.AuthenticationError)
    if denied or "protected mode" in said:
        way = "Check the user and the password in it" if url.password else "Write its password"
        return StoreDenied(
            f"the store {place} refuses: {said}. {way}: {url.scheme}://user:password@… "
            "(signs such as @ and / in it are %-encoded)"
        )
    if isinstance(error, redis.ResponseError):
        return StoreUnsuitable(f"the store {place} cannot be used: {said}")
    if isinstance(error, InvalidResponse):
        return StoreUnsuitable(f"{place} does not speak Redis's protocol: {said}")
    hint = "Check that the server runs, the host and the port (one with TLS wants rediss://)"
    if url.scheme == "rediss":
        hint = "Check that the port is one with TLS, and the certificates (ssl_ca_certs=path)"
    elif url.scheme in ("unix", "embedded"):
        hint = "Check that the server runs, and the path of its socket"
    return StoreUnreachable(
        f"the store {place} cannot be reached: {said}. {hint}; without a server of your own, "
        "nbqueue.connect('embedded://default') starts one"
    )
