"""A store URL becomes a connection, to a server that is known to be fit for it.

redis-py opens the connections; what is said over them first, :class:`_Handshake` decides, so that
a connection costs one round trip however much there is to say. RESP2 is spoken on purpose: no
reply that nobody asked for (a push) can ever stand between two replies of a pipeline.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import platformdirs

from nbqueue.errors import (
    InvalidURL,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    StoreUnsuitable,
    StoreWarning,
)
from nbqueue.store.programs import OLDEST
from nbqueue.store.url import StoreURL, default_url, parse_url

if TYPE_CHECKING:
    import redis

# redis-py types its clients, but its connections only here and there, and not alike in its
# versions 6 to 8.
_Connection: TypeAlias = Any

#: How long connecting, and each answer while connecting, may take, in seconds.
CONNECT_SECONDS = 5.0
#: How long a server that is reading its data is waited for, in seconds.
LOADING_SECONDS = 60.0

_CLIENT_NAME = "nbqueue"
_QUESTIONS = (("PING",), ("INFO", "server"), ("HELLO",), ("CONFIG", "GET", "maxmemory-policy"))
# The last is for data that were sent and never acknowledged, which keepalive does not notice.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 45_000,
}


class RawConnection:
    """A socket on which the handshake is done: logged in, with its database chosen.

    Speak RESP2 on ``socket``; nothing has been read ahead. Close it through :meth:`close`, not
    through the socket. Usable as a context manager.
    """

    def __init__(self, connection: _Connection) -> None:
        # Kept, because redis-py closes the socket once the object around it is gone.
        self._connection = connection
        self.socket: socket.socket = connection._sock

    def close(self) -> None:
        """Close the connection. Doing it twice is harmless."""
        self._connection.disconnect()

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Store:
    """A server that was reached and found fit. Made by :func:`connect`; safe to share by threads.

    ``server_version`` is the Redis version that it is compatible with: 7.2.4 for every Valkey,
    and 6.2.0 for a server whose rights hide it. ``product`` is ``"redis"`` or ``"valkey"``.
    """

    def __init__(self, url: StoreURL) -> None:
        self.url = url
        self.product = "redis"
        self.server_version: tuple[int, int, int] = OLDEST
        self._redis: redis.Redis | None = None
        self._lock = threading.Lock()

    @property
    def directory(self) -> Path | None:
        """The folder of an embedded store; None for any other."""
        if self.url.scheme != "embedded" or self.url.path is None:
            return None
        return Path(self.url.path)

    @property
    def config_directory(self) -> Path:
        """Where this user's files about the store belong, such as the signing key.

        That is the folder of an embedded store, else the user's configuration folder, which need
        not exist yet.
        """
        return self.directory or Path(platformdirs.user_config_dir("nbqueue", appauthor=False))

    @property
    def redis(self) -> redis.Redis:
        """A client of redis-py that answers bytes, for what is rare. Made on first use.

        For an embedded store, asking for it starts the server again if that has died; so ask
        for it each time, rather than keep it.
        """
        from redis import ConnectionPool, Redis

        socket_path = self._ensure_embedded()
        with self._lock:
            if self._redis is None:
                kind, settings = _settings(self.url, socket_path, _Handshake(self.url))
                settings["socket_timeout"] = 30.0
                self._redis = Redis(
                    connection_pool=ConnectionPool(connection_class=kind, **settings)
                )
            return self._redis

    def open_connection(self, timeout: float | None = 30.0) -> RawConnection:
        """Open a connection of its own, with the handshake done, for whoever speaks RESP himself.

        ``timeout`` (seconds) is what the socket is left with, None for one that waits for ever.
        An embedded server that has died is started again.

        Raises StoreUnreachable, StoreDenied or StoreUnsuitable.
        """
        raw = self._open(_Handshake(self.url))
        raw.socket.settimeout(timeout)
        return raw

    def close(self) -> None:
        """Close the connections of ``redis``. Those of ``open_connection`` are their owners'.

        An embedded server goes on: others use it. Closing twice is harmless.
        """
        with self._lock:
            client, self._redis = self._redis, None
        if client is not None:
            client.connection_pool.disconnect()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.url.redacted!r})"

    def _ensure_embedded(self) -> str | None:
        if self.directory is None:
            return None
        from nbqueue.store.embedded import ensure_server

        return str(ensure_server(self.directory))

    def _open(self, handshake: _Handshake) -> RawConnection:
        try:
            return self._open_once(handshake)
        except StoreUnreachable:
            if self.directory is None:
                raise
            # It was stopped or died between our look and our connecting.
            return self._open_once(handshake)

    def _open_once(self, handshake: _Handshake) -> RawConnection:
        import redis

        kind, settings = _settings(self.url, self._ensure_embedded(), handshake)
        try:
            connection = kind(**settings)
            connection.connect()
        except (redis.RedisError, OSError) as error:
            raise _store_error(self.url, error) from error
        return RawConnection(connection)


def connect(url: str | StoreURL | None = None) -> Store:
    """Connect to a store, and check that it is fit to hold tasks.

    ``url`` None is the store of :func:`nbqueue.store.url.default_url`. An embedded server is
    started if it does not run. A server that is still reading its data is waited for.

    Raises InvalidURL; StoreUnreachable if nobody answers; StoreDenied for a wrong or missing
    password or right; StoreUnsuitable for a server older than 6.2, a replica or a Sentinel, and
    for Sentinel and Cluster URLs, to which this version cannot connect; NoEmbeddedServer. Warns
    with StoreWarning if the server may throw away keys.
    """
    place = default_url() if url is None else parse_url(url) if isinstance(url, str) else url
    if place.scheme in ("redis+sentinel", "redis+cluster"):
        raise StoreUnsuitable(
            f"{place.redacted}: this version of nbqueue cannot connect to "
            f"{'Redis Sentinel' if place.scheme == 'redis+sentinel' else 'Redis Cluster'} yet. "
            "Use the redis:// URL of a single server"
        )
    store = Store(place)
    answers = _ask(store)
    facts = _Facts(place, answers)
    store.product, store.server_version = facts.product, facts.version
    if facts.policy not in (None, "noeviction"):
        warnings.warn(
            f"the store {place.redacted} has maxmemory-policy {facts.policy}: when its memory is "
            "full, it throws away keys, and with them tasks. Set it to noeviction "
            "(CONFIG SET maxmemory-policy noeviction, and in redis.conf)",
            StoreWarning,
            stacklevel=2,
        )
    return store


def _ask(store: Store) -> list[Any]:
    """The answers to the questions, on a connection of their own, once the data are loaded."""
    from redis.exceptions import BusyLoadingError

    limit = time.monotonic() + LOADING_SECONDS
    while True:
        handshake = _Handshake(store.url, _QUESTIONS)
        store._open(handshake).close()
        if not isinstance(handshake.answers[0], BusyLoadingError):
            return handshake.answers
        if time.monotonic() > limit:
            raise StoreUnreachable(
                f"the store {store.url.redacted} is still reading its data; try again later"
            )
        threading.Event().wait(0.05)


class _Handshake:
    """What is said first on a connection: everything in one go, then the answers are read.

    redis-py calls it for each connection it opens. ``answers`` has the replies to ``questions``,
    with errors as values: which of them matter is for the asker to say.
    """

    def __init__(self, url: StoreURL, questions: Sequence[tuple[str, ...]] = ()) -> None:
        self._needed: list[tuple[str, ...]] = []
        if url.password is not None:
            self._needed.append(("AUTH", *filter(None, [url.username]), url.password))
        if url.db:
            self._needed.append(("SELECT", str(url.db)))
        self._questions = [("CLIENT", "SETNAME", _CLIENT_NAME), *questions]
        self.answers: list[Any] = []

    def __call__(self, connection: _Connection) -> None:
        # Lets the parser read from the new socket; every connect function of redis-py does it.
        connection._parser.on_connect(connection)
        commands = [*self._needed, *self._questions]
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            replies.append(_read(connection, replies))
        for reply in replies[: len(self._needed)]:
            if isinstance(reply, Exception):
                raise reply
        self.answers = replies[len(self._needed) + 1 :]


def _read(connection: _Connection, before: list[Any]) -> Any:
    from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

    try:
        return connection.read_response(disconnect_on_error=False)
    except RedisError as error:
        # Refused logins and "loading" are, in redis-py, kinds of ConnectionError; they are
        # answers. A connection that broke is no answer, but the one before may say why it broke.
        if type(error) in (ConnectionError, TimeoutError):
            raise next((e for e in before if isinstance(e, ResponseError)), error) from None
        return error


def _settings(
    url: StoreURL, socket_path: str | None, handshake: _Handshake
) -> tuple[type[_Connection], dict[str, Any]]:
    """The class of redis-py's connection for ``url``, and its arguments."""
    from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

    settings: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": CONNECT_SECONDS,
        "redis_connect_func": handshake,
    }
    if url.scheme in ("unix", "embedded"):
        return UnixDomainSocketConnection, {**settings, "path": socket_path or url.path}
    (settings["host"], settings["port"]) = url.hosts[0]
    settings["socket_keepalive"] = True
    settings["socket_keepalive_options"] = {
        getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)
    }
    if url.scheme == "redis":
        return Connection, settings
    for name, value in url.tls:
        if isinstance(value, str) and name != "ssl_cert_reqs" and not os.path.exists(value):
            raise InvalidURL(f"{url.redacted}: there is no file {value!r}, which {name} names")
    settings.update(url.tls)
    if settings.get("ssl_cert_reqs") == "none":
        # Of a certificate that is not looked at, the name is not either; redis-py 6 wants it said.
        settings["ssl_check_hostname"] = False
    return SSLConnection, settings


class _Facts:
    """What the answers say about the server. Raises StoreError for one that will not do."""

    def __init__(self, url: StoreURL, answers: list[Any]) -> None:
        from redis.exceptions import AuthenticationError, NoPermissionError

        for answer in answers:
            if isinstance(answer, AuthenticationError):
                raise _store_error(url, answer)
        _, info, hello, policy = answers
        told = _info(info)
        greeting = _pairs(hello)
        self.policy = _pairs(policy).get("maxmemory-policy")
        self.product = "valkey" if "valkey_version" in told else greeting.get("server", "redis")
        if not told and not greeting and not isinstance(info, NoPermissionError):
            raise StoreUnsuitable(
                f"{url.redacted} does not say that it is a Redis: it answers INFO with {info!r}. "
                "Check the host and the port"
            )
        # A Valkey's own numbers mean something else; 7.2.4 is where it left Redis.
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
        if greeting.get("role") in ("replica", "slave"):
            raise StoreUnsuitable(
                f"the store {url.redacted} is a replica, which cannot be written to. Use the "
                "URL of its master"
            )


def _info(reply: Any) -> dict[str, str]:
    if not isinstance(reply, bytes):
        return {}
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _pairs(reply: Any) -> dict[str, str]:
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


def _store_error(url: StoreURL, error: Exception) -> StoreError:
    """What an error of redis-py or of the system means for the user of ``url``."""
    import redis
    from redis.exceptions import AuthenticationWrongNumberOfArgsError, InvalidResponse

    place, said = url.redacted, str(error).strip(". ") or type(error).__name__
    if isinstance(error, AuthenticationWrongNumberOfArgsError):
        return StoreUnsuitable(
            f"the store {place} knows no users, so it is older than Redis 6; nbqueue needs 6.2"
        )
    denied = isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError))
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
