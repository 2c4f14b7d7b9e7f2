"""The loader of the Lua scripts: its results and its errors."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any

import pytest

from nbqueue.broker import script_loader
from nbqueue.broker.commands import aggregation, enqueue, failure, inspect, lifecycle, maintenance
from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.broker.commands.lifecycle import Ended
from nbqueue.broker.commands.retention import utc_day
from nbqueue.broker.script_commands import PerTask, command
from nbqueue.store.rights import probes
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.keys import queue_keys

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


def test_a_script_names_the_one_that_handles_what_it_does_not(make: Any) -> None:
    assert make(HEADER.format(keys="a", argv="x") + "-- FULL: other\n").full == "other"
    assert make(HEADER.format(keys="a", argv="x")).full == ""


EXTEND = {
    "keys": queue_keys("q"),
    "args": {"lease_until": "1.5"},
    "tasks": PerTask(["k"], ("id", "fence"), ["i", "f"]),
}


def test_keys_and_arguments_are_ordered_by_the_header() -> None:
    made = command("extend", read=list, **EXTEND)
    assert list(made.keys) == ["asynq:{q}:lease", "k"]
    assert list(made.args) == ["1.5", "i", "f"]
    args = {"seen_at": "2", "fingerprint": "f"}
    code = command("drop_code", queue_keys("q"), args, bool, other_keys={"code": "c"})
    assert list(code.keys) == ["c", "nbqueue:{q}:codes"]
    assert list(code.args) == ["f", "2"]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"args": {}}, "'lease_until' is missing"),
        ({"args": {"lease_until": 1, "other": 2}}, "not other"),
        ({"keys": None}, "'lease' is missing"),
        ({"other_keys": {"code": "c"}}, "not code"),
        ({"tasks": None}, "tasks= is missing"),
        ({"tasks": PerTask(["k"], ("fence", "id"), ["f", "i"])}, "not \\('fence', 'id'\\)"),
        ({"tasks": PerTask(["k"], ("id", "fence"), ["i"])}, "1 values do not fit 1"),
        ({"tasks": PerTask(["k", "l"], ("id", "fence"), ["i", "f"])}, "2 values do not fit 2"),
    ],
)
def test_a_wrong_or_missing_name_is_refused(changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(TypeError, match=fault):
        command("extend", read=list, **{**EXTEND, **changed})


def test_a_script_without_further_keys_takes_none() -> None:
    with pytest.raises(TypeError, match="for each task"):
        command("queue_pause", queue_keys("q"), {"now_s": 1}, bool, tasks=PerTask(["k"]))


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
        enqueue.store_code("q", b"f", b"blob", 1),
        enqueue.drop_code("q", b"f", "1"),
        enqueue.enqueue("q", [NEW, NEW], 1),
        enqueue.enqueue("q", [NEW], 1, b"f"),
        enqueue.schedule("q", [(NEW, 2)], 1, b"f"),
        lifecycle.fetch("q", 1, 1, 2, "t"),
        lifecycle.complete("q", [ENDED, ENDED], 1, WHO),
        failure.retry("q", FAILURE, b"m", 2, 1, WHO),
        failure.archive("q", FAILURE, b"m", 1, WHO),
        failure.requeue("q", FAILURE, "lost", 1, WHO),
        lifecycle.extend("q", [("i", "Tt")], 2),
        maintenance.expired("q", 1),
        maintenance.forward("q", 1),
        maintenance.delete_expired("q", 1),
        maintenance.held_by_worker("q", "w"),
        maintenance.cancel("q", "i", b"m", b"m", b"e", 1),
        aggregation.add_to_group("q", "g", [NEW, NEW], 1),
        aggregation.aggregation_due("q", ["g", "h"], aggregation.Ripeness(1)),
        aggregation.form_set("q", SET, aggregation.Ripeness(1), 1, 2),
        aggregation.read_set("q", SET, 0),
        aggregation.finish_set("q", SET, aggregation.Aggregate(NEW), 1),
        aggregation.extend_set("q", SET, 2),
        aggregation.reclaim_set("q", SET),
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
        enqueue.enqueue("q", [NEW] * 1100, 1)
    for limit in (0, -1, 1001):
        with pytest.raises(ValueError, match="limit="):
            lifecycle.fetch("q", limit, 1, 2, "t")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(1_000, "1.001"), (1_001, "1.001"), (1_500, "1.500"), (1_999, "1.999"), (1_010, "1.010")],
)
def test_the_end_of_our_own_lease_is_never_a_whole_second(ms: int, text: str) -> None:
    assert lifecycle.lease_score(ms) == text
    assert float(text) != int(float(text))
    large = lifecycle.lease_score(2_000_000_000_000 + ms)
    assert float(large) != int(float(large))


@pytest.mark.parametrize(
    ("ms", "day"),
    [(0, "1970-01-01"), (86_399_999, "1970-01-01"), (86_400_000, "1970-01-02")],
)
def test_a_day_ends_at_midnight_in_utc(ms: int, day: str) -> None:
    assert utc_day(ms).isoformat() == day


def test_no_script_fails_for_want_of_a_channel_after_it_has_written() -> None:
    files = [*LUA.iterdir(), *(LUA / "lib").iterdir()]
    publishing = [f.name for f in files if f.is_file() and "'PUBLISH'" in f.read_text()]
    assert publishing == ["publish.lua"]


def test_the_rights_to_all_commands_of_the_scripts_are_tried() -> None:
    files = [*LUA.iterdir(), *(LUA / "lib").iterdir()]
    text = "\n".join(f.read_text() for f in files if f.is_file())
    used = set(re.findall(r"call\('([A-Z]+)'", text))
    assert used <= {words[0] for words in probes(is_worker=False)}
