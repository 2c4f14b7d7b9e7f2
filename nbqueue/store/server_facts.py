"""Facts about a server, and exceptions for servers that cannot be used."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from nbqueue.errors import StoreDenied, StoreError, StoreUnreachable, StoreUnsuitable
from nbqueue.store import descriptors
from nbqueue.store.rights import missing_right
from nbqueue.store.server_programs import OLDEST
from nbqueue.store.url import StoreURL
from nbqueue.transport.refusals import is_login_refused
from nbqueue.transport.resp import ProtocolError, ReplyError

_TOO_MANY = "max number of clients"
_NO_SELECT = re.compile("unknown command .?select", re.IGNORECASE)
"""The answer of a Sentinel to the choice of a database."""
_WRONG_AUTH = "wrong number of arguments for 'auth' command"


class ServerFacts:
    """Product, version and settings of a server.

    Raises `StoreError` for an unsuitable server.
    """

    def __init__(self, url: StoreURL, answers: list[Any]) -> None:
        is_forbidden = False
        for answer in answers:
            if isinstance(answer, ReplyError):
                if is_login_refused(answer):
                    raise connect_error(url, answer)
                is_forbidden |= answer is answers[1] and answer.code == "NOPERM"
        _, info, hello, policy = answers
        facts = info_of(info)
        greeting = pairs_of(hello)
        self.policy = pairs_of(policy).get("maxmemory-policy")
        self.product = "valkey" if "valkey_version" in facts else greeting.get("server", "redis")
        if not facts and not greeting and not is_forbidden:
            raise StoreUnsuitable(
                f"{url.redacted} does not identify as a Redis: it answers INFO with {info!r}. "
                "Check the host and the port"
            )
        # Valkey has its own version numbers; 7.2.4 is where it forked from Redis.
        like = "7.2.4" if self.product == "valkey" else greeting.get("version")
        self.version = _version(facts.get("redis_version") or like)
        if self.version < OLDEST:
            raise StoreUnsuitable(
                f"the store {url.redacted} is Redis {'.'.join(map(str, self.version))}, and "
                "nbqueue needs 6.2 or newer. Upgrade the server, or use another, such as an "
                "embedded one: nbqueue.connect('embedded://default')"
            )
        if "sentinel" in (facts.get("redis_mode"), greeting.get("mode")):
            raise _is_sentinel(url)
        _check_role(url, greeting)


def _is_sentinel(url: StoreURL) -> StoreUnsuitable:
    return StoreUnsuitable(
        f"{url.redacted} is a Sentinel, which holds no data. Write "
        "redis+sentinel://host:26379/master, or the redis:// URL of the master itself"
    )


def check_answers(url: StoreURL, pong: Any, hello: Any) -> None:
    """Raise `StoreError` if the replies to PING and HELLO refuse service."""
    if isinstance(pong, ReplyError):
        if pong.code == "LOADING":
            raise StoreUnreachable(f"the store {url.redacted} is still reading its data")
        if pong.code == "MASTERDOWN" or is_login_refused(pong):
            raise connect_error(url, pong)
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


def version_of(hello: Any) -> tuple[int, int, int] | None:
    """Return the version in the reply to HELLO, or None."""
    text = pairs_of(hello).get("version")
    return None if text is None else _version(text)


def _version(text: str | None) -> tuple[int, int, int]:
    numbers = list(OLDEST) if text is None else [0, 0, 0]
    with contextlib.suppress(ValueError):
        for place, part in enumerate((text or "").split(".")[:3]):
            numbers[place] = int(part)
    return numbers[0], numbers[1], numbers[2]


def connect_error(
    url: StoreURL, error: Exception, master: str = "", quorum_fault: str = ""
) -> StoreError:
    """Return the exception for a failed attempt to connect to ``url``.

    Behind Sentinels, ``master`` is the server's address, and ``quorum_fault`` is what a Sentinel
    says against a failover.
    """
    if descriptors.ran_out(error):
        return descriptors.unreachable(url.redacted)
    text = error.text if isinstance(error, ReplyError) else str(error)
    place = f"{master}, the master of {url.redacted}," if master else url.redacted
    reason = text.strip(". ") or type(error).__name__
    refusal = error if isinstance(error, ReplyError) else None
    if refusal is not None and _WRONG_AUTH in reason.lower():
        return StoreUnsuitable(
            f"the store {place} knows no users, so it is older than Redis 6; nbqueue needs 6.2"
        )
    if refusal is not None and _NO_SELECT.search(reason):
        return _is_sentinel(url)
    if refusal is not None and refusal.code == "NOPERM":
        return StoreDenied(f"{place}: {missing_right(url, reason)}")
    if _TOO_MANY in reason:
        way = "Raise its maxclients"
        if url.scheme == "embedded":
            way = "Raise `ulimit -n`, which bounds them, and start it anew (`nbqueue store stop`)"
        return StoreUnreachable(
            f"the store {place} accepts no more connections: {reason}. {way}, or close unused "
            "clients"
        )
    if (refusal is not None and is_login_refused(refusal)) or "protected mode" in reason:
        way = "Check the user and the password in it" if url.password else "Write its password"
        return StoreDenied(
            f"the store {place} refuses: {reason}. {way}: {url.scheme}://user:password@… "
            "(signs such as @ and / in it are %-encoded)"
        )
    if refusal is not None:
        return StoreUnsuitable(f"the store {place} cannot be used: {reason}")
    if isinstance(error, ProtocolError):
        return StoreUnsuitable(f"{place} does not speak Redis's protocol: {reason}")
    if master:
        way = quorum_fault or (
            "After a failover it is another server; until then, check that this one can be reached "
            "from here by the address that the Sentinels know"
        )
        return StoreUnreachable(f"the store {place} cannot be reached: {reason}. {way}")
    hint = "Check that the server runs, the host and the port (one with TLS wants rediss://)"
    if url.scheme == "rediss":
        hint = "Check that the port is one with TLS, and the certificates (ssl_ca_certs=path)"
    elif url.scheme in ("unix", "embedded"):
        hint = "Check that the server runs, and the path of its socket"
    return StoreUnreachable(
        f"the store {place} cannot be reached: {reason}. {hint}; without a server of your own, "
        "nbqueue.connect('embedded://default') starts one"
    )
