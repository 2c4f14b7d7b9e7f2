"""Connecting, to real servers: with and without passwords, rights, TLS, fit and unfit ones."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from servers import Server, Tunnel, free_port, make_certificate
from waits import wait_until

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.failure import Who
from nbqueue.cli.store_commands import store as store_commands
from nbqueue.errors import (
    InvalidURL,
    NoEmbeddedServer,
    StoreDenied,
    StoreUnreachable,
    StoreUnsuitable,
    StoreWarning,
)
from nbqueue.runtime.buffers import ChunkedBytes
from nbqueue.store import connection as connection_module
from nbqueue.store import server_programs
from nbqueue.store.connection import connect
from nbqueue.store.embedded import ensure_server, status
from nbqueue.store.url import parse_url
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.nonblocking import NonblockingConnection
from nbqueue.transport.script_call import Staged
from nbqueue.wire.keys import queue_keys

try:
    PROGRAM = server_programs.choose_program()
except NoEmbeddedServer as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBQUEUE_URL", raising=False)
    monkeypatch.setenv(server_programs.PROGRAM_VARIABLE, str(PROGRAM.path))


# --- An imitated server ------------------------------------------------------------------------


def start_server(folder: Path, *settings: str) -> Server:
    return Server.start(PROGRAM.path, folder, *settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with the password ``sesame``, and users of fewer rights."""
    started = start_server(tmp_path_factory.mktemp("server"), "--requirepass", "sesame")
    try:
        with started.client(password="sesame") as client:
            everything = ("reset", "on", "~*", "&*", "+@all")
            client.execute_command("ACL", "SETUSER", "mute", *everything, ">pw", "-info", "-hello")
            client.execute_command("ACL", "SETUSER", "mute", "-config", "-client")
            client.execute_command("ACL", "SETUSER", "tied", *everything, ">pw", "-select")
            client.execute_command("ACL", "SETUSER", "a:b@c/d", *everything, ">%&?#@/ ü")
        yield started
    finally:
        started.end()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*settings: str) -> Server:
        started.append(start_server(tmp_path, *settings))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder for a store, whose server is ended whatever the test did to it."""
    place = tmp_path / "store"
    yield place
    for process in servers_of(place):
        process.kill()
    wait_until(lambda: not servers_of(place))


def servers_of(place: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if "server" in process.info["name"] and process.cwd() == os.path.realpath(place):
                found.append(process)
    return found


# --- A server that is imitated, for what cannot be had ------------------------------------------


@dataclass
class Imitation:
    """Answers commands from a table; ``heard`` has what it read, one item per ``recv``."""

    answers: dict[bytes, bytes]
    refuse: bool = False
    heard: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Imitation:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while got := connection.recv(65536):
                    self.heard.append(got)
                    connection.sendall(b"".join(map(self._answer, commands_in(got))))

    def _answer(self, command: bytes) -> bytes:
        answer = self.answers.get(command.split()[0], b"-ERR unknown command\r\n")
        return bulk(answer) if answer.startswith(b"#") else answer


def commands_in(got: bytes) -> list[bytes]:
    """The commands in what was received: every array of bulks, joined by blanks."""
    found = []
    for array in (b"\r\n" + got).split(b"\r\n*")[1:]:
        found.append(b" ".join(array.split(b"\r\n")[2::2]))
    return found


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


# --- Where and how ------------------------------------------------------------------------------


def test_a_server_with_a_password_is_connected_to(server: Server) -> None:
    with connect(f"redis://:sesame@localhost:{server.port}") as store:
        assert store.redis.ping()
        assert store.server_version >= (6, 2, 0)
        assert store.product == PROGRAM.product
        assert store.directory is None
        assert "sesame" not in repr(store)


def test_a_user_with_signs_in_name_and_password_is_connected(server: Server) -> None:
    user, password = "a%3Ab%40c%2Fd", "%25%26%3F%23%40%2F%20%C3%BC"
    with connect(f"redis://{user}:{password}@127.0.0.1:{server.port}") as store:
        assert store.redis.execute_command("ACL", "WHOAMI") == b"a:b@c/d"


@pytest.mark.parametrize("login", ["", ":wrongly@", "nobody:wrongly@", "tied:wrongly@"])
def test_a_wrong_or_missing_password_is_denied_and_not_shown(server: Server, login: str) -> None:
    with pytest.raises(StoreDenied) as caught:
        connect(f"redis://{login}127.0.0.1:{server.port}/3")
    assert f"127.0.0.1:{server.port}/3" in str(caught.value)
    assert "user:password@" in str(caught.value)
    assert "wrongly" not in str(caught.value)
    assert "wrongly" not in str(caught.value.__cause__)


def test_a_missing_right_is_denied(server: Server) -> None:
    with pytest.raises(StoreDenied, match="select"):
        connect(f"redis://tied:pw@127.0.0.1:{server.port}/3")
    connect(f"redis://tied:pw@127.0.0.1:{server.port}").close()


def test_a_server_that_may_not_be_asked_about_itself_is_taken(server: Server) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = connect(f"redis://mute:pw@127.0.0.1:{server.port}")
    # HELLO cannot be forbidden in Redis.
    assert store.server_version == PROGRAM.level
    assert store.redis.set("a", 1)
    store.close()


def test_a_password_where_none_is_wanted_is_denied(own_server: Callable[..., Server]) -> None:
    with pytest.raises(StoreDenied, match="without any password"):
        connect(f"redis://:sesame@127.0.0.1:{own_server().port}")


def test_the_database_is_chosen_on_every_connection(server: Server) -> None:
    with connect(f"redis://:sesame@127.0.0.1:{server.port}/3") as store:
        store.redis.set("where", "three")
        with store.open_connection() as raw:
            assert say(raw.socket, "GET where") == b"$5\r\nthree\r\n"
    with server.client(password="sesame") as client:
        assert client.get("where") is None


def test_a_database_that_the_server_lacks_is_unsuitable(server: Server) -> None:
    with pytest.raises(StoreUnsuitable, match="DB index is out of range"):
        connect(f"redis://:sesame@127.0.0.1:{server.port}/99")


def test_a_unix_socket_is_connected_to(home: Path) -> None:
    path = ensure_server(home)
    with connect(f"unix://{path}?db=2") as store:
        assert store.redis.ping()
        assert store.directory is None
    with pytest.raises(StoreUnreachable, match="path of its socket"):
        connect(f"unix://{home / 'other.sock'}")


def test_nobody_there_is_unreachable_and_the_message_says_a_way_out() -> None:
    with pytest.raises(StoreUnreachable) as caught:
        connect(f"redis://:sesame@127.0.0.1:{free_port()}")
    assert "redis://:***@127.0.0.1" in str(caught.value)
    assert "embedded://default" in str(caught.value)
    with pytest.raises(StoreUnreachable, match="no-such-host"):
        connect("redis://no-such-host.invalid")


def test_a_server_that_says_nothing_is_unreachable_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begin = time.monotonic()
        with pytest.raises(StoreUnreachable, match="Timeout"):
            connect(f"redis://127.0.0.1:{mute.getsockname()[1]}")
    assert time.monotonic() - begin < 3


def test_a_bad_url_is_a_bad_url() -> None:
    with pytest.raises(InvalidURL):
        connect("http://h")


# --- Fit or not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_throws_keys_away_is_warned_about(
    own_server: Callable[..., Server], policy: str
) -> None:
    url = f"redis://127.0.0.1:{own_server('--maxmemory-policy', policy).port}"
    with pytest.warns(StoreWarning, match=f"maxmemory-policy {policy}") as caught:
        connect(url).close()
    assert [each.filename for each in caught] == [__file__]


def test_a_replica_is_unsuitable(own_server: Callable[..., Server]) -> None:
    started = own_server("--replicaof", "127.0.0.1", str(free_port()))
    with pytest.raises(StoreUnsuitable, match="is a replica"):
        connect(f"redis://127.0.0.1:{started.port}")


def test_an_old_server_is_unsuitable() -> None:
    info = b"# Server\r\nredis_version:5.0.7\r\nredis_mode:standalone\r\n"
    with (
        Imitation({b"PING": b"+PONG\r\n", b"INFO": bulk(info)}) as old,
        pytest.raises(StoreUnsuitable, match=r"is Redis 5\.0\.7.*6\.2 or newer"),
    ):
        connect(f"redis://127.0.0.1:{old.port}")


def test_a_server_too_old_for_users_is_unsuitable() -> None:
    wrong = b"-ERR wrong number of arguments for 'auth' command\r\n"
    with (
        Imitation({b"AUTH": wrong}) as old,
        pytest.raises(StoreUnsuitable, match="older than Redis 6"),
    ):
        connect(f"redis://ann:hunter2@127.0.0.1:{old.port}")


def test_a_sentinel_is_unsuitable() -> None:
    info = b"redis_version:7.0.0\r\nredis_mode:sentinel\r\n"
    with (
        Imitation({b"PING": b"+PONG\r\n", b"INFO": bulk(info)}) as sentinel,
        pytest.raises(StoreUnsuitable, match="is a Sentinel"),
    ):
        connect(f"redis://127.0.0.1:{sentinel.port}")


def test_a_valkey_counts_as_the_redis_it_left() -> None:
    info = b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n"
    with Imitation({b"PING": b"+PONG\r\n", b"INFO": bulk(info)}) as valkey:
        store = connect(f"redis://127.0.0.1:{valkey.port}")
    assert (store.product, store.server_version) == ("valkey", (7, 2, 4))


@pytest.mark.parametrize(
    ("hello", "product", "version"),
    [
        (
            b"*4\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n9.0.0\r\n",
            "valkey",
            (7, 2, 4),
        ),
        (
            b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.2\r\n",
            "redis",
            (7, 4, 2),
        ),
    ],
)
def test_where_info_is_forbidden_the_greeting_tells_the_version(
    hello: bytes, product: str, version: tuple[int, int, int]
) -> None:
    forbidden = b"-NOPERM this user has no permissions to run the 'info' command\r\n"
    with Imitation({b"PING": b"+PONG\r\n", b"INFO": forbidden, b"HELLO": hello}) as shy:
        store = connect(f"redis://127.0.0.1:{shy.port}")
    assert (store.product, store.server_version) == (product, version)


@pytest.mark.parametrize(
    "answers",
    [{}, {b"CLIENT": b"HTTP/1.1 400 Bad Request\r\n\r\n"}],
    ids=["no command of Redis", "no protocol of Redis"],
)
def test_what_is_no_redis_is_unsuitable(answers: dict[bytes, bytes]) -> None:
    with (
        Imitation(answers) as other,
        pytest.raises(StoreUnsuitable, match=r"does not (identify as a Redis|speak Redis)"),
    ):
        connect(f"redis://127.0.0.1:{other.port}")


def test_protected_mode_is_denied_not_unreachable() -> None:
    denied = b"-DENIED Redis is running in protected mode because ...\r\n"
    with (
        Imitation({b"CLIENT": denied, b"SELECT": denied}) as shut,
        pytest.raises(StoreDenied, match="protected mode"),
    ):
        connect(f"redis://127.0.0.1:{shut.port}/1")


def test_a_server_that_is_loading_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    info = bulk(b"redis_version:7.0.0\r\n")
    with Imitation({b"PING": loading, b"INFO": info}) as slow:
        url = f"redis://127.0.0.1:{slow.port}"

        def finish() -> None:
            wait_until(lambda: len(slow.heard) >= 3)
            slow.answers[b"PING"] = b"+PONG\r\n"

        finisher = threading.Thread(target=finish)
        finisher.start()
        connect(url)
        finisher.join()
        slow.answers[b"PING"] = loading
        monkeypatch.setattr(connection_module, "LOADING_SECONDS", 0.0)
        with pytest.raises(StoreUnreachable, match="still reading its data"):
            connect(url)


def test_connecting_takes_one_round_trip() -> None:
    answers = {b"AUTH": b"+OK\r\n", b"SELECT": b"+OK\r\n", b"CLIENT": b"+OK\r\n"}
    answers |= {b"PING": b"+PONG\r\n", b"INFO": bulk(b"redis_version:7.0.0\r\n")}
    with Imitation(answers) as far:
        connect(f"redis://ann:pw@127.0.0.1:{far.port}/2")
    assert len(far.heard) == 1
    assert commands_in(far.heard[0])[:2] == [b"AUTH ann pw", b"SELECT 2"]


# --- What a connection is good for --------------------------------------------------------------


def say(connection: socket.socket, command: str) -> bytes:
    connection.sendall(f"{command}\r\n".encode())
    return connection.recv(65536)


def test_connecting_without_tls_needs_no_redis_py(home: Path) -> None:
    connect(f"embedded://{home}").close()
    code = (
        "import sys; from nbqueue.store.connection import connect\n"
        "store = connect(sys.argv[1]); store.open_connection().close()\n"
        "print([m for m in ('redis', 'asyncio') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, f"embedded://{home}"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_a_raw_connection_speaks_resp2_under_our_name(server: Server) -> None:
    with connect(f"redis://:sesame@127.0.0.1:{server.port}") as store:
        with store.open_connection(timeout=7) as raw:
            assert raw.socket.gettimeout() == 7
            assert raw.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert raw.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert say(raw.socket, "CLIENT GETNAME") == b"$7\r\nnbqueue\r\n"
            # In RESP3 this would begin with a % for a map.
            assert say(raw.socket, "CONFIG GET port").startswith(b"*2\r\n")
        assert raw.socket.fileno() == -1
        raw.close()
        with store.open_connection(timeout=None) as raw:
            assert raw.socket.gettimeout() is None


def test_a_raw_connection_carries_a_pipeline(server: Server) -> None:
    with connect(f"redis://:sesame@127.0.0.1:{server.port}") as store:
        raw = store.open_connection()
    with raw:  # which is its owner's: the store's end is not its end
        raw.socket.sendall(b"ECHO nbqueue\r\n" * 5000)
        with raw.socket.makefile("rb") as replies:
            assert replies.read(5000 * 13) == b"$7\r\nnbqueue\r\n" * 5000


def test_a_store_survives_being_closed_twice_and_used_again(server: Server) -> None:
    store = connect(f"redis://:sesame@127.0.0.1:{server.port}")
    store.close()
    assert store.redis.set("a", b"\xff")
    assert store.redis.get("a") == b"\xff"
    assert store.redis is store.redis
    store.close()
    store.close()


# --- Embedded -----------------------------------------------------------------------------------


def test_an_embedded_store_is_started_by_connecting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBQUEUE_URL", f"embedded://{home}")
    with connect() as store:
        assert store.url == parse_url(f"embedded://{home}")
        assert store.directory == home
        assert store.config_directory == home
        assert store.server_version == PROGRAM.level
        assert store.redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert status(home).running  # closing is not stopping


def test_a_killed_embedded_server_comes_back_for_whoever_asks(home: Path) -> None:
    with connect(f"embedded://{home}") as store:
        store.redis.set("lesson", "learnt")
        for get in (
            lambda: store.redis.get("lesson"),
            lambda: say(raw.socket, "GET lesson").split()[1],
        ):
            pid = status(home).pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not status(home).running)
            with store.open_connection() as raw:
                assert get() == b"learnt"
            assert status(home).pid != pid


def test_files_about_a_store_elsewhere_belong_to_the_user(
    monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "platformdirs.user_config_dir", lambda name, appauthor=None: str(tmp_path / name)
    )
    with connect(f"redis://:sesame@127.0.0.1:{server.port}") as store:
        assert store.config_directory == tmp_path / "nbqueue"


def test_the_status_command_asks_a_server_elsewhere(server: Server) -> None:
    url = f"redis://:sesame@127.0.0.1:{server.port}"
    result = CliRunner().invoke(store_commands, ["status", "--url", url])
    assert result.exit_code == 0, result.output
    assert "running  yes" in result.output
    assert "sesame" not in result.output
    result = CliRunner().invoke(store_commands, ["status", "--url", url.replace("sesame", "pw")])
    assert result.exit_code == 1
    assert "refuses" in result.output


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the name ``localhost`` alone, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tunnel(server: Server, certificate: tuple[Path, Path]) -> Iterator[Tunnel]:
    with Tunnel(certificate, server.port) as opened:
        yield opened


def test_tls_is_spoken_with_a_certificate_that_we_trust(
    tunnel: Tunnel, certificate: tuple[Path, Path]
) -> None:
    url = f"rediss://:sesame@localhost:{tunnel.port}/1?ssl_ca_certs={certificate[0]}"
    with connect(url) as store:
        assert store.redis.ping()
        with store.open_connection() as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            assert say(raw.socket, "PING") == b"+PONG\r\n"


def test_large_values_go_through_tls(tunnel: Tunnel, certificate: tuple[Path, Path]) -> None:
    url = f"rediss://:sesame@localhost:{tunnel.port}/1?ssl_ca_certs={certificate[0]}"
    value = os.urandom(1_000_000)
    staged = Staged(queue_keys("q").staged(0), [("msg", ChunkedBytes(value[:9], value[9:]))])
    missing = lifecycle.complete("q", [], 1_000, Who("w", "h"))
    missing.staged = [staged]
    with connect(url) as store:
        channel, link = BlockingConnection(store), NonblockingConnection(store)
        assert channel.run([missing]) == [[]]
        assert channel.call(("SET", "k", value), ("GET", "k")) == [b"OK", value]
        assert channel.call(("GET", "k"), ("GET", "none"), ("GET", "k")) == [value, None, value]
        replies: list[object] = []
        link.send(missing, replies.append)
        link.call(("GET", "none"), replies.append)
        link.flush()
        expected: list[object] = [[], None]
        for _ in range(3):
            limit = time.monotonic() + 20
            while len(replies) < len(expected):
                assert time.monotonic() < limit
                select.select([link], [link] if link.wants_write else [], [], 0.01)
                link.flush()
                link.read()
            assert replies == expected
            link.call(("GET", "k"), replies.append)
            link.call(("STRLEN", "k"), replies.append)
            link.flush()
            expected += [value, len(value)]
        link.close()
        channel.close()


def test_a_certificate_that_we_do_not_trust_is_refused_unless_told_so(tunnel: Tunnel) -> None:
    url = f"rediss://:sesame@localhost:{tunnel.port}"
    with pytest.raises(StoreUnreachable, match="ssl_ca_certs=path"):
        connect(url)
    connect(f"{url}?ssl_cert_reqs=none").close()


def test_a_certificate_of_another_name_is_refused_unless_told_so(
    tunnel: Tunnel, certificate: tuple[Path, Path]
) -> None:
    url = f"rediss://:sesame@127.0.0.1:{tunnel.port}?ssl_ca_certs={certificate[0]}"
    with pytest.raises(StoreUnreachable, match="IP address mismatch"):
        connect(url)
    connect(f"{url}&ssl_check_hostname=false").close()


def test_tls_to_a_server_without_it_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Redis waits for the end of a line that a TLS greeting does not have.
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 0.2)
    with pytest.raises(StoreUnreachable, match="port is one with TLS"):
        connect(f"rediss://:sesame@127.0.0.1:{server.port}")


def test_a_certificate_file_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidURL, match="no file '/no/such', which ssl_ca_certs names"):
        connect("rediss://h?ssl_ca_certs=/no/such")
