"""A store URL becomes a connection, to a server that is known to be fit for it.

Connections with TLS are opened by redis-py, others by :mod:`nbqueue.transport.connect`;
:class:`_Handshake` decides what is said over them first, so that a connection costs one round trip.
RESP2 is spoken on purpose: no reply that nobody asked for (a push) can ever stand
between two replies of a pipeline.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import platformdirs

from nbqueue.errors import (
    InvalidURL,
    StoreDenied,
    StoreUnreachable,
    StoreUnsuitable,
    StoreWarning,
)
from nbqueue.store import descriptors, rights, schema
from nbqueue.store.server_facts import ServerFacts, check_answers, check_served, store_error
from nbqueue.store.server_programs import OLDEST
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
_READY_QUESTIONS = (("PING",), ("HELLO",), schema.QUESTION)
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
    ``has_channels``: whether its user may publish and subscribe. ``waits_for_fsync``: whether what
    is submitted has to be confirmed with WAITAOF. ``is_schema_due``: whether the version of the
    data is yet to be noted there.
    """

    def __init__(self, url: StoreURL) -> None:
        self.url = url
        self.product = "redis"
        self.has_channels = True
        self.waits_for_fsync = False
        self.is_schema_due = False
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

    def check_ready(self) -> None:
        """Raise `StoreError` unless the server serves us now, as one that can be written to.

        A server may take connections although it reads its data, or was made a replica.
        """
        handshake = _Handshake(self.url, _READY_QUESTIONS)
        self._open(handshake).close()
        pong, hello, version = handshake.answers
        check_answers(self.url, pong, hello)
        self.is_schema_due = schema.is_due(self.url.redacted, version)

    def note_schema(self) -> None:
        """Note the version of the data that this version of nbqueue writes, unless that is newer.

        A user without the right to do so leaves it to others.
        """
        self.ask(schema.note())
        self.is_schema_due = False

    def ask(self, *questions: tuple[str, ...]) -> list[Any]:
        """The replies to plain commands, on a connection of their own. Errors are values."""
        handshake = _Handshake(self.url, questions)
        self._open(handshake).close()
        return handshake.answers

    def close(self) -> None:
        """Close the connections of ``redis``. Those of ``open_connection`` are their owners'.

        An embedded server goes on: others use it. Closing twice is harmless.
        """
        with self._lock:
            client, self._redis = self._redis, None
        if client is not None:
            client.connection_pool.disconnect()

    def after_fork(self) -> None:
        """Share nothing with the parent, in a child process."""
        self._lock = threading.Lock()
        self._redis = None

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
        except OSError as error:
            if descriptors.ran_out(error):
                raise descriptors.unreachable(self.url.redacted) from error
            raise

    def _open_once(self, handshake: _Handshake) -> RawConnection:
        if self.url.scheme == "rediss":
            return self._open_with_tls(handshake)
        from nbqueue.transport.connect import PlainConnection

        socket_path = self._ensure_embedded()
        is_path = self.url.scheme in ("unix", "embedded")
        place = socket_path or self.url.path or "" if is_path else self.url.hosts[0]
        connection = PlainConnection(place, CONNECT_SECONDS, _keepalive())
        try:
            connection.connect()
            handshake.say(connection.exchange)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, OSError) or _is_of_redis(error):
                raise store_error(self.url, error) from error
            raise
        return RawConnection(connection)

    def _open_with_tls(self, handshake: _Handshake) -> RawConnection:
        import redis

        kind, settings = _settings(self.url, None, handshake)
        try:
            connection = kind(**settings)
            connection.connect()
        except (redis.RedisError, OSError) as error:
            raise store_error(self.url, error) from error
        return RawConnection(connection)


def connect(
    url: str | StoreURL | None = None,
    *,
    loading_seconds: float | None = None,
    is_worker: bool = False,
) -> Store:
    """Connect to a store, and check that it is fit to hold tasks.

    ``url`` None is the store of :func:`nbqueue.store.url.default_url`. An embedded server is
    started if it does not run. A server that is still reading its data is waited for, for
    ``loading_seconds`` (default: a minute). The rights that a client needs are checked, or those
    that a worker needs.

    Raises InvalidURL; StoreUnreachable if nobody answers; StoreDenied for a wrong or missing
    password or right; StoreUnsuitable for a server older than 6.2, a replica or a Sentinel, and
    for Sentinel and Cluster URLs, to which this version cannot connect, and for data that need a
    newer nbqueue; NoEmbeddedServer. Warns
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
    patience = LOADING_SECONDS if loading_seconds is None else loading_seconds
    probes = rights.probes(is_worker=is_worker)
    answers = _ask(store, [schema.QUESTION, *probes], time.monotonic() + patience)
    version = answers.pop(len(_QUESTIONS))
    facts = ServerFacts(place, answers[: len(_QUESTIONS)])
    store.product, store.server_version = facts.product, facts.version
    store.is_schema_due = schema.is_due(place.redacted, version)
    lacks = rights.missing(probes, answers[len(_QUESTIONS) :])
    if lacks.commands or lacks.keys:
        raise StoreDenied(rights.refusal(place, lacks))
    store.has_channels = not (lacks.channels or lacks.for_channels)
    if not (store.has_channels or is_worker):
        warnings.warn(rights.slower(place, lacks), StoreWarning, stacklevel=2)
    if facts.policy not in (None, "noeviction"):
        warnings.warn(
            f"the store {place.redacted} has maxmemory-policy {facts.policy}: when its memory is "
            "full, it throws away keys, and with them tasks. Set it to noeviction "
            "(CONFIG SET maxmemory-policy noeviction, and in redis.conf)",
            StoreWarning,
            stacklevel=2,
        )
    return store


def _ask(store: Store, more: Sequence[tuple[str, ...]], limit: float) -> list[Any]:
    """The answers to the questions, on a connection of their own, once the data are loaded."""
    while True:
        handshake = _Handshake(store.url, [*_QUESTIONS, *more])
        store._open(handshake).close()
        if not _is_loading(handshake.answers[0]):
            return handshake.answers
        if time.monotonic() > limit:
            raise StoreUnreachable(
                f"the store {store.url.redacted} is still reading its data; try again later"
            )
        threading.Event().wait(0.05)


def _is_loading(answer: Any) -> bool:
    if not isinstance(answer, Exception):
        return False
    from redis.exceptions import BusyLoadingError

    return isinstance(answer, BusyLoadingError)


def _is_of_redis(error: BaseException) -> TypeGuard[Exception]:
    from redis import RedisError

    return isinstance(error, RedisError)


class _Handshake:
    """What is said first on a connection: everything in one go, then the answers are read.

    redis-py calls it for each connection it opens; `say` is for others. ``answers`` has the replies
    to ``questions``, with errors as values: which of them matter is for the asker to say.
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
        def exchange(commands: Sequence[tuple[str, ...]]) -> list[Any]:
            # Lets the parser read from the new socket; every connect function of redis-py does it.
            connection._parser.on_connect(connection)
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            replies: list[Any] = []
            for _ in commands:
                replies.append(_read(connection, replies))
            return replies

        self.say(exchange)

    def say(self, exchange: Callable[[Sequence[tuple[str, ...]]], list[Any]]) -> None:
        """Say it through ``exchange``, which gives the replies to commands, errors as values."""
        replies = exchange([*self._needed, *self._questions])
        for reply in replies[: len(self._needed)]:
            if isinstance(reply, Exception):
                raise reply
        check_served(replies[len(self._needed)])
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


def _keepalive() -> dict[int, int]:
    return {
        getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)
    }


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
    settings["socket_keepalive_options"] = _keepalive()
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
