"""Connect to a store's server, and check that it can hold tasks."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from nbqueue.errors import (
    InvalidURL,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    StoreWarning,
)
from nbqueue.store import descriptors, refusal_errors, rights, schema
from nbqueue.store.cluster.cluster_nodes import ClusterNodes
from nbqueue.store.default_store import default_url
from nbqueue.store.sentinel.master_watch import QUESTIONS, MasterWatch
from nbqueue.store.server_facts import ServerFacts, check_answers, connect_error
from nbqueue.store.server_programs import OLDEST
from nbqueue.store.url import StoreURL, parse_url
from nbqueue.transport.confirmation import Confirmation
from nbqueue.transport.connect import Address, RawConnection, TlsOptions, open_raw
from nbqueue.transport.handshake import Login, shake_hands
from nbqueue.transport.refusals import is_moved
from nbqueue.transport.resp import Arg, ProtocolError, ReplyError
from nbqueue.transport.router import Router
from nbqueue.transport.server import Server
from nbqueue.transport.topology import Place, SingleServer

if TYPE_CHECKING:
    import redis

#: How long connecting, and each answer while connecting, may take, in seconds.
CONNECT_SECONDS = 5.0
#: How long connecting to a master that Sentinels name may take, which may just have failed.
MASTER_SECONDS = 1.5
#: How long a server that is reading its data is waited for, in seconds.
LOADING_SECONDS = 60.0

_SHARDED_CHANNELS = (7, 0, 0)
_QUESTIONS = (("PING",), ("INFO", "server"), ("HELLO",), ("CONFIG", "GET", "maxmemory-policy"))
_READY_QUESTIONS = (("PING",), ("HELLO",), schema.QUESTION)


class Store:
    """A server that was reached and can hold tasks.

    Made by `connect`; threads may share it.

    ``server_version`` is the Redis version that it is compatible with: 7.2.4 for every Valkey, and
    6.2.0 for a server whose rights hide it. ``product`` is ``"redis"`` or ``"valkey"``.
    ``has_channels``: whether its user may publish and subscribe. ``confirmation``: what
    submitted tasks are waited for, or None. ``is_schema_due``: whether the version of the
    data is yet to be noted there.
    """

    def __init__(self, url: StoreURL, *, is_node: bool = False) -> None:
        """``is_node``: it is one of several nodes, and has some of the keys."""
        self.url = url
        self._is_node = is_node
        self.product = "redis"
        self.has_channels = True
        self.confirmation: Confirmation | None = None
        self.is_schema_due = False
        self.server_version: tuple[int, int, int] = OLDEST
        self._redis: redis.Redis | None = None
        self._redis_at: Address | None = None
        self._lock = threading.Lock()
        self._masters = MasterWatch(url, _tls_options(url)) if url.is_sentinel else None
        self.nodes = ClusterNodes(url, _node_store) if url.is_cluster else None
        """The nodes of a cluster; None if the store is a single server."""

    @property
    def directory(self) -> Path | None:
        """The folder of an embedded store; None for any other."""
        if self.url.scheme != "embedded" or self.url.path is None:
            return None
        return Path(self.url.path)

    @property
    def config_directory(self) -> Path:
        """The folder of this user's files about the store, such as the signing key.

        That is the folder of an embedded store, else the user's configuration folder, which need
        not exist yet.
        """
        return self.directory or Path(platformdirs.user_config_dir("nbqueue", appauthor=False))

    @property
    def name(self) -> str:
        """The URL without passwords, for messages."""
        return self.url.redacted

    @property
    def redis(self) -> redis.Redis:
        """A client of redis-py that returns bytes, for rare commands.

        Made on first use.

        Asking for it starts an embedded server again that has died, so ask for it each time
        rather than keep it. It opens connections of its own.
        """
        from redis import Redis

        if self.nodes is not None:
            return self.nodes.redis_py()  # type: ignore[no-any-return]
        address = self._address()
        with self._lock:
            if self._redis is None or self._redis_at != address:
                if self._redis is not None:
                    self._redis.connection_pool.disconnect()
                self._redis = Redis(**_redis_py_settings(self.url, address))
                self._redis_at = address
            return self._redis

    @property
    def longest_pause(self) -> float:
        """The longest pause between two attempts to connect again, in seconds."""
        # Behind Sentinels, another server may be the master at any moment.
        return 5.0 if self._masters is None else 1.0

    @property
    def failover_seconds(self) -> float:
        """The time for which an outage may be a failover that needs no attention."""
        return 0.0 if self._masters is None else 10.0

    @property
    def server(self) -> str:
        """The address of the server, which changes behind Sentinels. Raises `StoreError`."""
        return str(self._address())

    def server_for(self, place: Place) -> Server:
        """Return the server that has a queue or key. Raises `StoreUnreachable` if none has."""
        return self if self.nodes is None else self.nodes.node_for(place)

    def note_lost(self) -> None:
        """Find out which nodes have which keys after a connection was lost or refused."""
        if self.nodes is not None:
            self.nodes.topology.refresh()

    def new_router(self, on_open: Callable[[], None]) -> Router:
        """Return a router for a client; ``on_open`` is called after each connection."""
        if self.nodes is not None:
            return self.nodes.router(on_open)
        return Router(SingleServer(self), on_open)

    def open_connection(self, timeout: float | None = 30.0) -> RawConnection:
        """Open a separate connection, ready to speak RESP2.

        ``timeout`` (seconds) is the socket's time-out afterwards; None waits forever. An embedded
        server that has died is started again.

        Raises StoreUnreachable, StoreDenied or StoreUnsuitable.
        """
        if self.nodes is not None:
            return self.nodes.any_node().open_connection(timeout)
        raw, _ = self._open()
        raw.socket.settimeout(timeout)
        return raw

    def error_for(self, refusal: ReplyError, keys: Sequence[Arg] = ()) -> StoreError:
        """Return the exception for a refused command with these keys."""
        return refusal_errors.refusal_error(refusal, self.url, keys)

    def damage_of(self, keys: Sequence[Arg]) -> StoreDamaged:
        """Return the exception for a command with a key of the wrong type."""
        return refusal_errors.damage(keys)

    def check_ready(self) -> None:
        """Raise `StoreError` unless the server serves this client and accepts writes.

        A server may accept connections while it reads its data, or after it became a replica.
        """
        answers = self.ask(*_READY_QUESTIONS)
        pong, hello, version = answers
        check_answers(self.url, pong, hello)
        if not self._is_node:
            _check_not_moved(self.url, answers)
        self.is_schema_due = schema.is_due(self.url.redacted, version)

    def note_schema(self) -> None:
        """Write the version of this nbqueue's data into the store.

        Not if it has a newer one.

        Without the right to do so, it does nothing.
        """
        self.ask(schema.note())
        self.is_schema_due = False

    def ask(self, *questions: Sequence[str]) -> list[Any]:
        """Run plain commands on a separate connection.

        Returns the replies, with refusals as values.
        """
        if self.nodes is not None:
            return self.nodes.ask(questions)
        raw, answers = self._open(questions)
        raw.close()
        return answers

    def close(self) -> None:
        """Close the connections of ``redis``.

        Those of ``open_connection`` are their owners'.

        An embedded server keeps running for others. Closing twice is harmless.
        """
        with self._lock:
            client, self._redis = self._redis, None
        if client is not None:
            client.connection_pool.disconnect()
        if self._masters is not None:
            self._masters.close()
        if self.nodes is not None:
            self.nodes.close()

    def after_fork(self) -> None:
        """Share nothing with the parent, in a child process."""
        self._lock = threading.Lock()
        self._redis = None
        if self._masters is not None:
            self._masters.after_fork()
        if self.nodes is not None:
            self.nodes.after_fork()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.url.redacted!r})"

    def _address(self) -> Address:
        """Return the server's address.

        Starts an embedded server that does not run.
        """
        if self.directory is not None:
            from nbqueue.store.embedded import ensure_server

            return Address(path=str(ensure_server(self.directory)))
        if self._masters is not None:
            return self._masters.address()[0]
        if self.url.scheme == "unix":
            return Address(path=self.url.path or "")
        host, port = self.url.hosts[0]
        tls = _tls_options(self.url) if self.url.uses_tls else None
        return Address(host, port, tls=tls)

    def _open(self, questions: Sequence[Sequence[str]] = ()) -> tuple[RawConnection, list[Any]]:
        """Open a connection; return it with the replies to ``questions``."""
        try:
            return self._open_once(questions)
        except StoreUnreachable:
            if self.directory is None:
                raise
            # It was running when it was looked for, and ended before it was connected to.
            return self._open_once(questions)
        except OSError as error:
            if descriptors.ran_out(error):
                raise descriptors.unreachable(self.url.redacted) from error
            raise

    def _open_once(self, questions: Sequence[Sequence[str]]) -> tuple[RawConnection, list[Any]]:
        if self._masters is not None:
            return self._open_master(self._masters, questions)
        return self._handshake(open_raw, self._address(), questions)

    def _open_master(
        self, masters: MasterWatch, questions: Sequence[Sequence[str]]
    ) -> tuple[RawConnection, list[Any]]:
        """Open a connection to the master that the Sentinels name."""
        address, master = masters.address()

        def open_watched(address: Address, seconds: float) -> RawConnection:
            raw = open_raw(address, min(seconds, MASTER_SECONDS))
            raw.socket.settimeout(seconds)
            masters.add(raw, master)
            return raw

        raw, replies = self._handshake(open_watched, address, (*QUESTIONS, *questions))
        try:
            masters.check(master, *replies[: len(QUESTIONS)])
        except BaseException:
            raw.close()
            raise
        return raw, replies[len(QUESTIONS) :]

    def _handshake(
        self,
        open_to: Callable[[Address, float], RawConnection],
        address: Address,
        questions: Sequence[Sequence[str]],
    ) -> tuple[RawConnection, list[Any]]:
        raw: RawConnection | None = None
        try:
            raw = open_to(address, CONNECT_SECONDS)
            login = Login(self.url.username, self.url.password, self.url.db)
            return raw, shake_hands(raw, login, questions)
        except BaseException as error:
            if raw is not None:
                raw.close()
            if isinstance(error, OSError | ReplyError | ProtocolError):
                if self._masters is None:
                    raise connect_error(self.url, error) from error
                fault = self.quorum_fault() if isinstance(error, OSError) else ""
                raise connect_error(self.url, error, str(address), fault) from error
            raise

    def expect_switches(self) -> None:
        """Log a new master without a warning, as a worker warns of each lost connection."""
        if self._masters is not None:
            self._masters.level = logging.INFO

    def quorum_fault(self) -> str:
        """Return what a Sentinel says against a failover now; empty if one is possible."""
        return "" if self._masters is None else self._masters.sentinels.quorum_fault()


def connect(
    url: str | StoreURL | None = None,
    *,
    loading_seconds: float | None = None,
    is_worker: bool = False,
) -> Store:
    """Connect to a store, and check that it can hold tasks.

    ``url`` None is the store of `nbqueue.store.default_store.default_url`. An embedded server is
    started if it does not run. A server that is still reading its data is waited for, for
    ``loading_seconds`` (default: a minute). The rights that a client needs are checked, or those
    that a worker needs.

    Raises InvalidURL; StoreUnreachable if no server answers; StoreDenied for a wrong or missing
    password or right; StoreUnsuitable for a server older than 6.2, a replica or a Sentinel, for a
    master that no Sentinel knows, for a cluster's node given as a single server and the reverse,
    and for data that need a newer nbqueue; NoEmbeddedServer. Warns with StoreWarning if the server
    may evict keys, and of Sentinels that cannot fail over.
    """
    place = default_url() if url is None else parse_url(url) if isinstance(url, str) else url
    store = Store(place)
    try:
        check = _check if store.nodes is None else _check_nodes
        faults = check(store, loading_seconds, is_worker=is_worker)
    except BaseException:
        store.close()
        raise
    for fault in faults:
        warnings.warn(fault, StoreWarning, stacklevel=2)
    return store


def _node_store(url: StoreURL) -> Store:
    return Store(url, is_node=True)


def _check_nodes(store: Store, loading_seconds: float | None, *, is_worker: bool) -> list[str]:
    """Check the nodes of a cluster, but for those that are away; return warnings of one."""
    assert store.nodes is not None
    found: list[Store] = []
    faults: list[str] = []
    away: StoreUnreachable | None = None
    for node in store.nodes.masters():
        try:
            faults = _check(node, loading_seconds, is_worker=is_worker) or faults
        except StoreUnreachable as error:
            away = error
            continue
        except StoreError as error:
            raise type(error)(f"a node of the cluster cannot be used: {error}") from error
        found.append(node)
    if away is not None and not found:
        raise away
    oldest = min(found, key=lambda node: node.server_version)
    store.product, store.server_version = oldest.product, oldest.server_version
    store.nodes.topology.is_sharded = store.server_version >= _SHARDED_CHANNELS
    store.is_schema_due = any(node.is_schema_due for node in found)
    store.has_channels = all(node.has_channels for node in found)
    return faults


def _check(store: Store, loading_seconds: float | None, *, is_worker: bool) -> list[str]:
    """Find out what the server is, and return warnings. Raises `StoreError` for an unfit one."""
    place = store.url
    patience = LOADING_SECONDS if loading_seconds is None else loading_seconds
    probes = rights.probes(is_worker=is_worker)
    answers = _ask(store, [schema.QUESTION, *probes], time.monotonic() + patience)
    if not store._is_node:
        _check_not_moved(place, answers)
    version = answers.pop(len(_QUESTIONS))
    facts = ServerFacts(place, answers[: len(_QUESTIONS)])
    store.product, store.server_version = facts.product, facts.version
    store.is_schema_due = schema.is_due(place.redacted, version)
    lacks = rights.missing(probes, answers[len(_QUESTIONS) :])
    if lacks.commands or lacks.keys:
        raise StoreDenied(rights.refusal(place, lacks))
    store.has_channels = not (lacks.channels or lacks.for_channels)
    faults: list[str] = []
    if not (store.has_channels or is_worker):
        faults.append(rights.slower(place, lacks))
    if facts.policy not in (None, "noeviction"):
        faults.append(
            f"the store {place.redacted} has maxmemory-policy {facts.policy}: when its memory is "
            "full, it throws away keys, and with them tasks. Set it to noeviction "
            "(CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
        )
    fault = store.quorum_fault()
    if fault:
        faults.append(
            f"no replica of the store {place.redacted} can take over if its master fails: {fault}"
        )
    if is_worker:
        store.expect_switches()
    return faults


def _ask(store: Store, more: Sequence[Sequence[str]], limit: float) -> list[Any]:
    """Return the replies to the first questions, after the server has loaded."""
    while True:
        answers = store.ask(*_QUESTIONS, *more)
        if not (isinstance(answers[0], ReplyError) and answers[0].code == "LOADING"):
            return answers
        if time.monotonic() > limit:
            raise StoreUnreachable(
                f"the store {store.url.redacted} is still reading its data; try again later"
            )
        threading.Event().wait(0.05)


def _check_not_moved(url: StoreURL, answers: Sequence[Any]) -> None:
    """Raise `StoreUnsuitable` if the server refers to another of its Cluster."""
    for answer in answers:
        if isinstance(answer, ReplyError) and is_moved(answer):
            raise refusal_errors.cluster_error(url, str(answer))


def _tls_options(url: StoreURL) -> TlsOptions:
    """Return the TLS options of a URL.

    Raises `InvalidURL` for files that do not exist.
    """
    options: dict[str, Any] = {}
    for name, value in url.tls:
        if isinstance(value, str) and name != "ssl_cert_reqs" and not os.path.exists(value):
            raise InvalidURL(f"{url.redacted}: there is no file {value!r}, which {name} names")
        options[name.removeprefix("ssl_")] = value
    return TlsOptions(**options)


def _redis_py_settings(url: StoreURL, address: Address) -> dict[str, Any]:
    """Return the arguments of redis-py's client for the server at ``address``."""
    settings: dict[str, Any] = {
        "protocol": 2,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": 30.0,
        "username": url.username,
        "password": url.password,
        "db": url.db,
    }
    if address.path:
        return {**settings, "unix_socket_path": address.path}
    settings |= {"host": address.host, "port": address.port}
    if address.tls is not None:
        settings |= {"ssl": True, **dict(url.tls)}
        if address.tls.cert_reqs == "none":
            settings["ssl_check_hostname"] = False
    return settings
