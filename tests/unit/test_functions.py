"""Functions, arguments and results, loaded without the sender's modules."""

from __future__ import annotations

import functools
import linecache
import os
import pickle
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.calls import functions, readable_names, source_lines
from nbqueue.calls.pickling import local_modules, pickler
from nbqueue.errors import CannotPickle, IncompatiblePython

_PRELUDE = """
import pathlib, sys
from nbqueue.calls import functions as F
OUT = pathlib.Path(sys.argv[1])
def put(name, data): (OUT / name).write_bytes(data)
def get(name): return (OUT / name).read_bytes()
"""

Exchange = Callable[..., str]


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    """Run ``send`` as a program next to ``modules``, then ``load`` without them."""

    def run(send: str, load: str = "", **modules: str) -> str:
        here, there = tmp_path / "here", tmp_path / "there"
        output = ""
        for folder, text in ((here, send), (there, load)):
            folder.mkdir(exist_ok=True)
            if folder is here:
                for name, source in modules.items():
                    path = here / f"{name}.py"
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(textwrap.dedent(source))
            (folder / "program.py").write_text(_PRELUDE + textwrap.dedent(text))
            output = run_program(folder / "program.py", tmp_path)
        return output

    return run


def run_program(program: Path, out: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-B", str(program), str(out)],
        cwd=program.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_main_function_with_globals_runs_in_a_process_that_lacks_them(exchange: Exchange) -> None:
    send = """
    import math, functools
    FACTOR = 3
    def helper(x): return x * FACTOR
    @functools.lru_cache
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
    class Model:
        def __init__(self, rate): self.rate = rate
        @functools.cached_property
        def double(self): return self.rate * 2
    def fit(x):
        return helper(x) + math.floor(Model(2).double) + fib(20)
    put("fit", F.dump_function(fit).blob)
    """
    assert exchange(send, "print(F.load_function(get('fit'))(5))") == str(15 + 4 + 6765)


def test_edited_module_brings_its_new_code_to_a_process_that_has_the_old(
    exchange: Exchange,
) -> None:
    send = """
    import importlib, pathlib, helpers
    def run(): return helpers.step(1), helpers.STEP
    from helpers import step
    def direct(): return step(1)
    put("run1", F.dump_function(run).blob); put("direct1", F.dump_function(step).blob)
    path = pathlib.Path(helpers.__file__)
    path.write_text(path.read_text().replace("STEP = 1", "STEP = 100  # edited"))
    importlib.reload(helpers)
    from helpers import step
    put("run2", F.dump_function(run).blob); put("direct2", F.dump_function(direct).blob)
    assert F.dump_function(step).by_reference is False
    """
    load = """
    f1, d1 = F.load_function(get("run1")), F.load_function(get("direct1"))
    f2, d2 = F.load_function(get("run2")), F.load_function(get("direct2"))
    assert "helpers" not in sys.modules
    print(f1(), f2(), d1(1), d2(), f1())
    """
    module = """
    STEP = 1
    def step(x): return x + STEP
    """
    assert exchange(send, load, helpers=module) == "(2, 1) (101, 100) 2 101 (2, 1)"


def test_functions_of_a_module_share_its_namespace_on_the_worker(exchange: Exchange) -> None:
    send = """
    import counter
    def run():
        counter.add(); counter.add()
        return counter.total
    put("run", F.dump_function(run).blob)
    """
    module = """
    total = 0
    def add():
        global total
        total += 1
    """
    assert exchange(send, "print(F.load_function(get('run'))())", counter=module) == "2"


def test_modules_that_import_each_other_and_relative_imports_travel(exchange: Exchange) -> None:
    send = """
    import pkg.left, even
    from pkg import top
    def run(): return even.is_even(10), pkg.left.double(3), top(1), even.is_even.__module__
    put("run", F.dump_function(run).blob)
    """
    modules = {
        "even": "import odd\ndef is_even(n): return n == 0 or odd.is_odd(n - 1)",
        "odd": "import even\ndef is_odd(n): return n != 0 and even.is_even(n - 1)",
        "pkg/__init__": "from .left import double\ndef top(n): return double(n) + 1",
        "pkg/left": "from . import right\ndef double(n): return right.add(n) * 2",
        "pkg/right": "from . import left\ndef add(n): return n + len(left.__name__)",
    }
    out = exchange(send, "print(F.load_function(get('run'))())", **modules)
    assert out == "(True, 22, 19, 'even')"


def test_what_a_module_cannot_send_is_left_out_and_named_when_touched(exchange: Exchange) -> None:
    send = """
    import helpers
    def good(): return helpers.f()
    def bad(): return helpers.query()
    put("good", F.dump_function(good).blob); put("bad", F.dump_function(bad).blob)
    """
    load = """
    print(F.load_function(get("good"))())
    try: F.load_function(get("bad"))()
    except AttributeError as error: print(error)
    """
    module = """
    import threading
    lock = threading.Lock()
    def f(): return "fine"
    def query():
        with lock: return 1
    """
    fine, message = exchange(send, load, helpers=module).splitlines()
    assert fine == "fine"
    assert message.startswith("helpers.query was not sent with the call: TypeError")
    assert "lock" in message


def test_class_in_code_and_in_arguments_is_one_class_on_the_worker(exchange: Exchange) -> None:
    send = """
    import dataclasses, enum
    from shapes import Square
    class Colour(enum.Enum):
        RED = 1
    @dataclasses.dataclass
    class Config:
        size: int
        colour: Colour
        def area(self): return self.size ** 2
    def check(config, square):
        assert isinstance(config, Config) and isinstance(square, Square)
        assert config.colour is Colour.RED
        return Config(config.area() + square.area(), Colour.RED)
    put("check", F.dump_function(check).blob)
    put("args", F.dump_arguments((Config(3, Colour.RED),), {"square": Square(2)}))
    """
    load = """
    fn, (args, kwargs) = F.load_function(get("check")), F.load_arguments(get("args"))
    first = fn(*args, **kwargs)
    again, _ = F.load_arguments(get("args"))
    assert type(again[0]) is type(first)
    put("result", F.dump_value(first))
    print(first)
    """
    module = """
    class Square:
        def __init__(self, n): self.n = n
        def area(self): return self.n ** 2
    """
    assert exchange(send, load, shapes=module) == "Config(size=13, colour=<Colour.RED: 1>)"


def test_received_class_takes_the_methods_that_the_sender_gave_it_since(
    exchange: Exchange,
) -> None:
    send = """
    class Net:
        def run(self): return "old"
    put("one", F.dump_arguments((Net(),), {}))
    Net.run = lambda self: "new"          # as autoreload does
    put("two", F.dump_arguments((Net(),), {}))
    """
    load = """
    (one,), _ = F.load_arguments(get("one"))
    print(one.run())
    (two,), _ = F.load_arguments(get("two"))
    print(two.run(), type(one) is type(two))
    """
    assert exchange(send, load) == "old\nnew True"


def test_result_of_a_class_defined_here_comes_back_as_that_class_unchanged() -> None:
    class Config:
        def run(self) -> int:
            return 1

    method = Config.__dict__["run"]
    back = functions.load_value(functions.dump_value(Config()))
    assert type(back) is Config
    assert Config.__dict__["run"] is method


def test_traceback_on_the_worker_shows_the_lines_of_cell_and_module(exchange: Exchange) -> None:
    send = """
    import linecache, helpers
    cell = "def broken(x):\\n    return helpers.divide(x, 0)  # in the cell\\n"
    name = "/nowhere/ipykernel_1/2.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    exec(compile(cell, name, "exec"), globals())
    put("broken", F.dump_function(broken).blob)
    import os; os.unlink(helpers.__file__)
    """
    load = """
    import traceback
    try: F.load_function(get("broken"))(1)
    except ZeroDivisionError: print(traceback.format_exc())
    """
    module = "def divide(a, b):\n    return a / b  # in the module\n"
    out = exchange(send, load, helpers=module)
    assert "return helpers.divide(x, 0)  # in the cell" in out
    assert "return a / b  # in the module" in out


def test_code_keeps_the_name_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def anonymous(code: types.CodeType) -> Any:
        """Replace the file's name as cloudpickle 3.1.3 does."""
        make, args = reduce(code)
        return make, tuple("<dynamic-code>" if arg == code.co_filename else arg for arg in args)

    reduce = cloudpickle.cloudpickle._code_reduce
    monkeypatch.setattr(cloudpickle.cloudpickle, "_code_reduce", anonymous)
    monkeypatch.setitem(cloudpickle.Pickler._dispatch_table, types.CodeType, anonymous)
    code = compile("def fn():\n    return (lambda: 1)\n", "/cells/7.py", "exec")
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(code, space)
    back = pickle.loads(pickler.dump(space["fn"]).data)
    assert [back.__code__.co_filename, back().__code__.co_filename] == ["/cells/7.py"] * 2


def test_type_variables_and_new_types_of_the_notebook_travel(exchange: Exchange) -> None:
    send = """
    import typing
    T = typing.TypeVar("T")
    UserId = typing.NewType("UserId", int)
    class Box(typing.Generic[T]):
        def __init__(self, value: T) -> None: self.value = value
    class Pair(typing.NamedTuple):
        a: int
    def run(user: UserId) -> Box[int]: return Box(Pair(UserId(user)))
    put("run", F.dump_function(run).blob)
    """
    assert exchange(send, "print(F.load_function(get('run'))(7).value)") == "Pair(a=7)"


def test_module_missing_on_the_worker_is_named(exchange: Exchange) -> None:
    send = """
    import types
    ghost = types.ModuleType("ghost_package"); sys.modules["ghost_package"] = ghost
    def run(): return ghost
    put("run", F.dump_function(run).blob)
    """
    load = """
    try: F.load_function(get("run"))
    except ModuleNotFoundError as error: print(error.name, "|", error)
    """
    out = exchange(send, load)
    assert out.startswith("ghost_package | the function needs the module 'ghost_package'")


# --- in this process


async def _coroutine() -> None:
    pass


class _Callable:
    async def __call__(self) -> None:
        pass

    def method(self) -> None:
        pass


def _as_main(fn: Any) -> Any:
    fn.__module__ = "__main__"
    return fn


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (os.path.join, "posixpath.join"),
        (len, "len"),
        ([].append, "list.append"),
        (dict.fromkeys, "dict.fromkeys"),
        (pickle.dumps, "_pickle.dumps"),
        (functools.partial(functools.partial(textwrap.dedent), "x"), "textwrap.dedent"),
        (_as_main(lambda: 0), "<lambda>"),
        (int, "int"),
    ],
)
def test_name_is_readable(fn: Any, name: str) -> None:
    assert readable_names.callable_name(fn) == name


def test_name_is_valid_utf8_and_never_blank() -> None:
    fn = _as_main(types.FunctionType((lambda: 0).__code__, {}))
    fn.__qualname__ = "a\udc80b"
    assert readable_names.callable_name(fn).encode() == b"a\\udc80b"
    fn.__qualname__ = "  "
    assert readable_names.callable_name(fn).strip()
    fn.__qualname__ = "x" * 1000
    assert len(readable_names.callable_name(fn)) == 200


def test_coroutine_functions_are_recognised() -> None:
    for fn in (_coroutine, functools.partial(_coroutine), _Callable()):
        assert readable_names.is_coroutine_function(fn)
    for fn in (len, _Callable, _Callable().method, lambda: 0, functools.partial(len)):
        assert not readable_names.is_coroutine_function(fn)


def test_installed_function_goes_by_reference_and_another_python_may_load_it() -> None:
    code = functions.dump_function(textwrap.dedent)
    assert code.by_reference
    assert code.name == "textwrap.dedent"
    version, _, *rest = pickle.loads(code.blob)
    assert functions.load_function(pickle.dumps((version, (3, 1), *rest))) is textwrap.dedent


def test_code_of_another_python_is_refused_before_it_is_loaded() -> None:
    code = functions.dump_function(_as_main(lambda: 0))
    assert not code.by_reference
    version, _, by_reference, _, texts = pickle.loads(code.blob)
    with pytest.raises(IncompatiblePython, match=r"Python 3\.1, .* start a worker with"):
        functions.load_function(
            pickle.dumps((version, (3, 1), by_reference, b"not a pickle", texts))
        )
    with pytest.raises(IncompatiblePython, match="newer nbqueue: upgrade this worker"):
        functions.load_function(pickle.dumps((99, "whatever")))


def test_fingerprint_is_the_same_until_the_code_changes() -> None:
    def make(number: int) -> Callable[[], int]:
        return _as_main(lambda: number)

    one = functions.dump_function(make(1))
    assert one == functions.dump_function(make(1))
    assert one.fingerprint == functions.fingerprint_of(one.blob)
    assert len(one.fingerprint) == 16
    assert one.fingerprint != functions.dump_function(make(2)).fingerprint


def test_what_is_no_function_is_refused_with_advice() -> None:
    with pytest.raises(CannotPickle, match=r"this is an int: pass fn and its arguments"):
        functions.dump_function(3)  # type: ignore[arg-type]
    coroutine = _coroutine()
    with pytest.raises(TypeError, match=r"pass _coroutine and its arguments"):
        functions.dump_function(coroutine)  # type: ignore[arg-type]
    coroutine.close()


def test_nothing_is_added_to_the_list_that_other_libraries_share(tmp_path: Path) -> None:
    functions.dump_function(_coroutine)
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_local_modules_are_those_of_the_user() -> None:
    assert local_modules.is_local_module(__name__)
    for name in ("os", "sys", "json", "zipimport", "cloudpickle", "numpy.linalg", "__main__"):
        assert not local_modules.is_local_module(name)
    for name in ("nbqueue", "nbqueue.calls.functions", "no.such", None):
        assert not local_modules.is_local_module(name)


def test_extension_archive_and_missing_files_are_not_local(tmp_path: Path) -> None:
    for file in ("a.so", "b.zip/b.py"):
        module = types.ModuleType("module")
        module.__file__ = str(tmp_path / file)
        assert not local_modules.is_local(module)
    (tmp_path / "ours.py").write_text("")
    module = types.ModuleType("ours")
    module.__file__ = str(tmp_path / "ours.py")
    assert local_modules.is_local(module)
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "theirs.py").write_text("")
    theirs = types.ModuleType("theirs")
    theirs.__file__ = str(installed / "theirs.py")
    assert not local_modules.is_local(theirs)


def test_namespace_package_of_the_user_is_local(tmp_path: Path) -> None:
    package = types.ModuleType("space")
    package.__path__ = [str(tmp_path)]
    assert local_modules.is_local(package)


def test_sources_are_capped_and_old_ones_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("x = 1\n" * 100_000)
    (text,) = source_lines.collect([str(path), os.__file__]).values()
    assert len(text) <= 200_000
    assert text.endswith("\n")
    for number in range(300):
        source_lines.register({f"/nowhere/{number}.py": "x = 1\n"})
    assert linecache.getline("/nowhere/299.py", 1) == "x = 1\n"
    assert linecache.getline("/nowhere/1.py", 1) == ""


@pytest.mark.parametrize("name", ["<string>", "<stdin>"])
def test_a_name_that_code_without_a_file_shares_has_no_source(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Python 3.13 does with the text of `python -c`.
    monkeypatch.setitem(linecache.cache, name, (6, None, ["x = 1\n"], name))
    assert source_lines.collect([name]) == {}


def test_standard_streams_travel_as_themselves() -> None:
    assert functions.load_value(functions.dump_value([sys.stdout]))[0] is sys.stdout


_plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_values = st.recursive(
    _plain | st.binary() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(_plain, max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(_values, max_size=4).map(tuple), st.dictionaries(st.text(), _values, max_size=3))
def test_arguments_come_back_as_they_went(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    data = functions.dump_arguments(args, kwargs, callee="fit")
    assert functions.load_arguments(memoryview(data)) == (args, kwargs)


@given(_values)
def test_results_come_back_as_they_went(value: Any) -> None:
    assert functions.load_value(functions.dump_value(value)) == value


def test_arrays_take_the_fast_way_unless_they_hold_objects() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(5)
    (back,), _ = functions.load_arguments(functions.dump_arguments((array,), {}))
    assert (back == array).all()
    assert functions._is_plain(array)
    assert not functions._is_plain(numpy.array([object()]))
