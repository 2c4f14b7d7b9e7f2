"""The loader of the Lua scripts: what it makes of them, and what it refuses."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any

import pytest

from nbqueue.broker import script_loader
from nbqueue.broker.commands import aggregation, inspect, lifecycle
from nbqueue.broker.commands.lifecycle import Ended, Failure, NewTask, Who
from nbqueue.store.rights import probes

LUA = resources.files("nbqueue.broker") / "lua"
NAMES = sorted(f.name.removesuffix(".lua") for f in LUA.iterdir() if f.name.endswith(".lua"))
HEADER = "-- Does nothing.\n--\n-- KEYS: {keys}\n-- ARGV: {argv}\n-- RETURNS: 1\n"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A loader of a script with this text."""

    def make(text: str, **fragments: str) -> script_loader.Script:
        files = {"made.lua": text}
        files |= {f"lib/{name}.lua": body for name, body in fragments.items()}
        monkeypatch.setattr(script_loader, "_read", files.__getitem__)
        return script_loader.load.__wrapped__("made")

    return make


def test_names_become_locals_and_comments_are_left_out(make: Any) -> None:
    header = HEADER.format(keys="a, b", argv="x, y (a remark, with a comma)")
    script = make(
        header + "-- USES: add\n\n-- Why.\nreturn a\n", add="-- f\nlocal function f()\nend"
    )
    assert script.source == (
        b"local KEYS, ARGV = KEYS, ARGV\n"
        b"local a = KEYS[1]\nlocal b = KEYS[2]\nlocal x = ARGV[1]\nlocal y = ARGV[2]\n"
        b"local function f()\nend\nreturn a"
    )
    assert script.sha == hashlib.sha1(script.source).hexdigest().encode()
    assert (script.keys, script.args, script.rest) == (("a", "b"), ("x", "y"), ())


def test_a_rest_is_reached_by_where_it_begins(make: Any) -> None:
    script = make(HEADER.format(keys="a, *tasks", argv="x, then for each task: id, msg"))
    assert b"local tasks_at = 2\nlocal rest_at = 2" in script.source
    assert (script.keys, script.args, script.rest) == (("a",), ("x",), ("id", "msg"))


@pytest.mark.parametrize(
    ("keys", "args", "fits"),
    [(1, 1, True), (2, 3, True), (3, 5, True), (2, 1, False), (1, 3, False), (0, 1, False)],
)
def test_a_rest_needs_its_arguments_for_each_key(
    make: Any, keys: int, args: int, fits: bool
) -> None:
    script = make(HEADER.format(keys="a, *tasks", argv="x, then for each task: id, msg"))
    if fits:
        script.check(keys, args)
    else:
        with pytest.raises(TypeError, match=r"made\.lua takes keys"):
            script.check(keys, args)


@pytest.mark.parametrize(("keys", "args"), [(1, 1), (3, 1), (2, 0), (2, 2)])
def test_a_wrong_number_of_keys_or_arguments_is_refused(make: Any, keys: int, args: int) -> None:
    script = make(HEADER.format(keys="a, b", argv="x"))
    script.check(2, 1)
    with pytest.raises(TypeError, match=r"made\.lua takes keys"):
        script.check(keys, args)


@pytest.mark.parametrize("part", ["KEYS", "ARGV", "RETURNS"])
def test_a_script_that_says_nothing_of_a_part_is_refused(make: Any, part: str) -> None:
    text = re.sub(rf"-- {part}: .*\n", "", HEADER.format(keys="a", argv="x"))
    with pytest.raises(ValueError, match=f"says nothing of its {part}"):
        make(text)


@pytest.mark.parametrize("name", ["2x", "A", "a b", "a-b"])
def test_a_name_that_lua_cannot_have_is_refused(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        make(HEADER.format(keys=f"a, {name}", argv="x"))


@pytest.mark.parametrize("name", NAMES)
def test_each_script_is_understood_by_the_server(redis: Any, name: str) -> None:
    script = script_loader.load(name)
    assert redis.script_load(script.source) == script.sha.decode()
    assert not re.search(r"(KEYS|ARGV)\[\d", (LUA / f"{name}.lua").read_text(encoding="utf-8"))


WHO = Who("w", "h")
FAILURE = Failure("i", "Tt", "t", 1, 0, None, "error", 0, "text")
ENDED = Ended("i", "Tt", None, b"", b"", "t", 1, 0, 0, None, 0)
NEW = NewTask("i", b"m")
SET = aggregation.Set("g", "s")


@pytest.mark.parametrize(
    "command",
    [
        lifecycle.store_code("q", b"f", b"blob", 1),
        lifecycle.drop_code("q", b"f", "1"),
        lifecycle.enqueue("q", [NEW, NEW], 1),
        lifecycle.enqueue("q", [NEW], 1, b"f"),
        lifecycle.schedule("q", [(NEW, 2)], 1, b"f"),
        lifecycle.fetch("q", 1, 1, 2, "t"),
        lifecycle.complete("q", [ENDED, ENDED], 1, WHO),
        lifecycle.retry("q", FAILURE, b"m", 2, 1, WHO),
        lifecycle.archive("q", FAILURE, b"m", 1, WHO),
        lifecycle.requeue("q", FAILURE, "lost", 1, WHO),
        lifecycle.extend("q", [("i", "Tt")], 2),
        lifecycle.expired("q", 1),
        lifecycle.forward("q", 1),
        lifecycle.delete_expired("q", 1),
        lifecycle.held("q", "w"),
        lifecycle.cancel("q", "i", b"m", b"m", b"e", 1),
        aggregation.add_to_group("q", "g", [NEW, NEW], 1),
        aggregation.ripe("q", ["g", "h"], aggregation.Ripeness(1)),
        aggregation.aggregate("q", SET, aggregation.Ripeness(1), 1, 2),
        aggregation.members("q", SET, 0),
        aggregation.aggregated("q", SET, aggregation.Aggregate(NEW), 1),
        aggregation.extend_set("q", SET, 2),
        aggregation.reclaim("q", SET),
        aggregation.note_groups("q", ["g"], 1),
        aggregation.restore_groups("q", 0, 1),
        inspect.run("q", [inspect.ToRun("i")] * 2, 1),
        inspect.archive_by_hand("q", ["i", "j"], 1),
        inspect.delete("q", ["i", "j"], 1),
        inspect.cancel_tasks("q", ["i", "j"], [b"e", b"f"], "text", 1),
        inspect.reschedule("q", ["i", "j"], 2, 1),
        inspect.set_aside("q", ["i", "j"], 2, 1),
        inspect.set_payload("q", "i", b"m", b"n"),
        inspect.pause("q", 1),
        inspect.unpause("q"),
        inspect.counts("q", 1),
        inspect.empty("q", "asynq:{q}:pending", "pending", 1),
    ],
    ids=lambda command: command.script.name,
)
def test_all_keys_of_a_command_share_the_slot_of_its_queue(command: Any) -> None:
    assert all(re.match(r"(asynq|nbqueue):\{q\}:", key) for key in command.keys)


def test_more_tasks_than_lua_can_take_at_once_are_refused_before_anything_is_written() -> None:
    with pytest.raises(ValueError, match="at most 1000"):
        lifecycle.enqueue("q", [NEW] * 1100, 1)
    for limit in (0, -1, 1001):
        with pytest.raises(ValueError, match="limit="):
            lifecycle.fetch("q", limit, 1, 2, "t")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(1_000, "1.001"), (1_001, "1.001"), (1_500, "1.500"), (1_999, "1.999"), (1_010, "1.010")],
)
def test_the_end_of_our_own_lease_is_never_a_whole_second(ms: int, text: str) -> None:
    assert lifecycle.seconds_never_whole(ms) == text
    assert float(text) != int(float(text))
    large = lifecycle.seconds_never_whole(2_000_000_000_000 + ms)
    assert float(large) != int(float(large))


@pytest.mark.parametrize(
    ("ms", "day"),
    [(0, "1970-01-01"), (86_399_999, "1970-01-01"), (86_400_000, "1970-01-02")],
)
def test_a_day_ends_at_midnight_in_utc(ms: int, day: str) -> None:
    assert lifecycle.utc_day(ms).isoformat() == day


def test_no_script_fails_for_want_of_a_channel_after_it_has_written() -> None:
    files = [*LUA.iterdir(), *(LUA / "lib").iterdir()]
    publishing = [f.name for f in files if f.is_file() and "'PUBLISH'" in f.read_text()]
    assert publishing == ["publish.lua"]


def test_the_rights_to_all_commands_of_the_scripts_are_tried() -> None:
    files = [*LUA.iterdir(), *(LUA / "lib").iterdir()]
    text = "\n".join(f.read_text() for f in files if f.is_file())
    used = set(re.findall(r"call\('([A-Z]+)'", text))
    assert used <= {words[0] for words in probes(is_worker=False)}
