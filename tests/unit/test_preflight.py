"""Errors and warnings for objects that cannot be sent."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import socket
import sqlite3
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbqueue.calls import functions
from nbqueue.errors import CannotPickle

Notebook = dict[str, Any]


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    """A namespace of ``__main__``, as cells make it, with a few things that cannot be sent."""
    cells = """
def load():
    return conn.execute("select 1")

def sweep():
    return load()

def direct(x=1):
    return [conn for _ in range(x)]

def outer():
    lock = guard
    def inner():
        with lock:
            return 1
    def caller():
        return inner()
    return caller

def defaulted(x, lock=guard):
    return x

class Config:
    def __init__(self, **names):
        self.__dict__.update(names)
    def run(self):
        return self

class Slotted:
    __slots__ = ("lock", "name")

class Tied:
    db = conn

class Uses:
    def run(self):
        return conn

class Stubborn:
    def __reduce__(self):
        raise RuntimeError("I stay\\nhere")

def with_config():
    return config
"""
    connection = sqlite3.connect(":memory:")
    namespace: Notebook = {"__name__": "__main__", "conn": connection, "guard": threading.Lock()}
    exec(compile(cells, "<cell>", "exec"), namespace)
    namespace["config"] = namespace["Config"](lock=threading.Lock())
    yield namespace
    connection.close()


def refused(call: Callable[[], object]) -> CannotPickle:
    with pytest.raises(CannotPickle) as info:
        call()
    assert info.value.__cause__ is not None
    return info.value


OPEN = "create it inside the function, or pass what is needed to open it"
LOCK = "a lock works within one process only; create it inside the function"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            "direct",
            f"direct() uses the global 'conn', a sqlite3.Connection, which cannot be sent to a "
            f"worker: {OPEN}",
        ),
        (
            "sweep",
            f"sweep() calls load(), which uses the global 'conn', a sqlite3.Connection, which "
            f"cannot be sent to a worker: {OPEN}",
        ),
        (
            "outer()",
            f"caller() calls inner() of the enclosing function 'outer', which uses the variable "
            f"'lock' of the enclosing function 'outer', a _thread.lock, which cannot be sent to "
            f"a worker: {LOCK}",
        ),
        (
            "defaulted",
            f"defaulted() has a default for the parameter 'lock', a _thread.lock, which cannot "
            f"be sent to a worker: {LOCK}",
        ),
        (
            "with_config",
            f"with_config() uses the global 'config': attribute 'lock' of Config, a "
            f"_thread.lock, which cannot be sent to a worker: {LOCK}",
        ),
        (
            "config.run",
            f"Config.run(): the Config it is bound to: attribute 'lock' of Config, a "
            f"_thread.lock, which cannot be sent to a worker: {LOCK}",
        ),
        (
            "Tied",
            f"Tied: class attribute 'db' of Tied, a sqlite3.Connection, which cannot be sent "
            f"to a worker: {OPEN}",
        ),
    ],
)
def test_function_names_its_culprit(notebook: Notebook, make: str, message: str) -> None:
    error = refused(lambda: functions.dump_function(eval(make, notebook)))
    assert str(error) == message


def test_path_leads_from_the_outside_in(notebook: Notebook) -> None:
    error = refused(lambda: functions.dump_function(notebook["sweep"]))
    assert error.path == ("sweep()", "global 'load'", "global 'conn'")


def test_partial_is_looked_into(notebook: Notebook) -> None:
    made = functools.partial(notebook["Config"], lock=threading.Lock())
    text = str(refused(lambda: functions.dump_function(made)))
    assert text.startswith("Config(): argument 'lock' of the partial, a _thread.lock")


def arguments(notebook: Notebook, *args: Any, **kwargs: Any) -> CannotPickle:
    def sweep(rate: float, cfg: object = None, *more: object, key: object = None) -> None: ...

    return refused(lambda: functions.dump_arguments(args, kwargs, callee="sweep", fn=sweep))


def test_argument_is_named_by_position_and_parameter(notebook: Notebook) -> None:
    error = arguments(notebook, 0.5, notebook["config"])
    assert str(error) == (
        "argument 2 ('cfg') of sweep(): attribute 'lock' of Config, a _thread.lock, which "
        f"cannot be sent to a worker: {LOCK}"
    )
    assert error.path == ("argument 2 ('cfg')", "attribute 'lock'")


def test_argument_by_keyword_and_surplus_ones_are_named(notebook: Notebook) -> None:
    conn = notebook["conn"]
    assert str(arguments(notebook, key=conn)).startswith("argument 'key' of sweep(), a sqlite3.C")
    assert str(arguments(notebook, 1, 2, 3, conn)).startswith("argument 4 ('*more') of sweep(), a")
    error = refused(lambda: functions.dump_arguments((1, conn), {}))
    assert str(error).startswith("argument 2, a sqlite3.Connection, which")


def test_nested_items_are_named(notebook: Notebook) -> None:
    grid = {"a": [1, (2, {"deep": notebook["conn"]})]}
    text = str(arguments(notebook, grid))
    assert "('rate') of sweep(): item ['a']: item [1]: item [1]: item ['deep'], a sqlite3" in text
    text = str(arguments(notebook, OrderedDict(x=threading.Lock())))
    assert "item ['x'], a _thread.lock" in text
    text = str(arguments(notebook, {threading.Lock()}))
    assert "a member of the set, a _thread.lock" in text


def test_slots_classes_and_functions_are_looked_into(notebook: Notebook) -> None:
    slotted = notebook["Slotted"]()
    slotted.lock = threading.Lock()
    assert "attribute 'lock' of Slotted, a _thread.lock" in str(arguments(notebook, slotted))
    text = str(arguments(notebook, notebook["Uses"]()))
    assert "its class Uses: method run(), which uses the global 'conn', a sqlite3" in text
    text = str(arguments(notebook, [1, notebook["sweep"]]))
    assert "item [1], sweep(), which calls load(), which uses the global 'conn'" in text


def test_own_refusal_is_repeated(notebook: Notebook) -> None:
    text = str(arguments(notebook, [notebook["Stubborn"]()]))
    assert (
        "item [0], a Stubborn, which cannot be sent to a worker (RuntimeError: I stay here)" in text
    )


def test_objects_that_hold_each_other_do_not_loop(notebook: Notebook) -> None:
    one, two = notebook["Config"](), notebook["Config"]()
    one.two, two.one, two.lock = two, one, threading.Lock()
    text = str(arguments(notebook, one))
    assert "attribute 'two' of Config: attribute 'lock' of Config, a _thread.lock" in text


def test_what_is_nested_too_deeply_is_said_to_be(notebook: Notebook) -> None:
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    assert str(arguments(notebook, nest)).endswith("it is nested too deeply to be pickled")


def test_each_kind_has_its_hint(notebook: Notebook, tmp_path: Path) -> None:
    async def coroutine() -> None: ...

    running = coroutine()
    with (
        open(tmp_path / "file", "w+") as file,
        socket.socket() as sock,
        open(os.devnull, "rb") as raw,
    ):
        table = [
            ((i for i in ()), "a generator, .* make a list of it"),
            (file, "pass its path"),
            (raw, "pass its path"),
            (sock, "connect inside the function"),
            (threading.RLock(), "a lock works"),
            (threading.Event(), "argument 1, a threading.Event, .* a lock works"),
            (threading.Thread(), "argument 1, a threading.Thread, .* start it inside"),
            (running, "pass the async function and its arguments"),
            (sqlite3.connect, None),
            (types.FrameType, None),
            (io.StringIO("text"), None),
            (asyncio.Lock, None),
        ]
        for value, message in table:
            if message is None:
                functions.dump_arguments((value,), {})
            else:
                with pytest.raises(CannotPickle, match=message):
                    functions.dump_arguments((value,), {})
    running.close()


def test_result_is_told_of_as_a_result(notebook: Notebook) -> None:
    error = refused(lambda: functions.dump_value((i for i in ()), callee="fit"))
    assert str(error) == (
        "the result of fit(), a generator, which cannot be sent back: return a list: list(…)"
    )
    error = refused(lambda: functions.dump_value({"db": notebook["conn"]}, callee="fit"))
    assert str(error) == (
        "the result of fit(): item ['db'], a sqlite3.Connection, which cannot be sent back: "
        "return the data in it, such as plain values, arrays or frames"
    )
    error = refused(lambda: functions.dump_value(notebook["sweep"], callee="fit"))
    assert str(error).startswith("the result of fit(), sweep(), which calls load(), which uses")


def test_last_of_many_items_is_found(notebook: Notebook) -> None:
    text = str(arguments(notebook, [*range(100_000), notebook["conn"]]))
    assert "item [100000], a sqlite3.Connection" in text


def test_what_belongs_to_the_notebook_itself_is_recognised() -> None:
    def refuse(self: object) -> object:
        raise TypeError("cannot pickle 'Shell' object")

    shell = type("Shell", (), {"__module__": "ipykernel.zmqshell", "__reduce__": refuse})()
    error = refused(lambda: functions.dump_arguments((shell,), {}))
    assert str(error) == (
        "argument 1, an ipykernel.zmqshell.Shell, which cannot be sent to a worker: a worker has "
        "no notebook around it; pass the values that are needed"
    )
