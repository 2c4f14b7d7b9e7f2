"""Local modules in tasks: one copy each, as new as the call, importable.

Each test is a program that stands for a notebook: it has modules of its own, which the worker, in
another folder, does not have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

KEY = "5b" * 32

_PRELUDE = """
import importlib, os, pathlib, pickle, sys, time
import nbqueue
q = nbqueue.connect(sys.argv[1]).options(queue=sys.argv[2], timeout=40)
HERE = pathlib.Path(__file__).parent
def run(fn, *args): return q.submit(fn, *args).result(50)
def edit(name, old, new):
    path = HERE / name
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, (path.stat().st_mtime + 10,) * 2)  # a cached form of it is out of date
"""

SHAPES = """
    import threading
    lock = threading.Lock()
    VERSION = 1
    class Shape:
        def __init__(self, n): self.n = n
        def __eq__(self, other): return type(other) is type(self) and other.n == self.n
        def version(self): return VERSION
        class Part: pass
    class BadShape(Exception): pass
    def fail(): raise BadShape("no")
    def square(x): return x * x
    def version(): return VERSION
    def locked():
        with lock: return VERSION
"""
LATE = """
    from shapes import Shape
    class Round(Shape): pass
    VERSION = 1
    def make():
        import circle
        return circle.make()
"""
CIRCLE = """
    import late
    def make(): return late.Round(late.VERSION)
"""
MODULES = {
    "shapes": SHAPES,
    "late": LATE,
    "circle": CIRCLE,
    "pkg/__init__": "from .a import A",
    "pkg/a": """
        class A: pass
        def make():
            from . import b
            return b.B()
    """,
    "pkg/b": "from .a import A\nclass B(A): pass",
}

Notebook = Callable[..., None]


@pytest.fixture(scope="module")
def lab(shared_lab: Any) -> Iterator[Any]:
    queues = {"default": 1}
    with shared_lab.worker(concurrency=2, queues=queues):
        yield shared_lab


@pytest.fixture
def notebook(shared_lab: Any, tmp_path: Path) -> Notebook:
    """Run a program in the folder of the modules above."""

    def run(source: str, queue: str = "default") -> None:
        for name, text in MODULES.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        program = tmp_path / "program.py"
        program.write_text(_PRELUDE + textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, "-B", str(program), shared_lab.url, queue],
            cwd=tmp_path,
            env={**os.environ, "NBQUEUE_KEY": KEY},
            capture_output=True,
            text=True,
            timeout=55,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def test_a_module_is_one_in_a_task_however_it_is_imported(lab: Any, notebook: Notebook) -> None:
    notebook("""
    from shapes import Shape, BadShape, fail, square
    def one_class():
        from shapes import Shape as inner
        class Holder:
            from shapes import Shape as held
        names = [__import__("shapes").Shape for _ in range(1)]
        return inner is Shape and isinstance(Shape(1), inner) and Holder.held is names[0] is Shape
    assert run(one_class)
    def caught():
        from shapes import BadShape as inner
        try: fail()
        except inner: return True
    assert run(caught)
    def by_name(name):
        return importlib.import_module("shapes").Shape is Shape, sys.modules[name].Shape is Shape
    assert run(by_name, "shapes") == (True, True)
    def arguments(shape, fn):
        import shapes
        return type(shape) is shapes.Shape and fn is shapes.square
    assert run(arguments, Shape(2), square)
    def fresh_lock():
        import shapes
        return shapes.locked(), shapes.Shape is Shape
    assert run(fresh_lock) == (1, True)
    def optional():
        try: import no_such_module
        except ImportError: return "none"
    assert run(optional) == "none"
    """)


def test_modules_that_the_notebook_has_not_imported_come_along(
    lab: Any, notebook: Notebook
) -> None:
    notebook("""
    from shapes import Shape
    def make():
        import late
        made = late.make()
        return isinstance(made, Shape), late.Shape is Shape, made
    same, also, made = run(make)
    assert same and also
    import late
    assert type(made) is late.Round and made == late.Round(1)
    def packages():
        import pkg.a as a
        from pkg import A, b
        return isinstance(a.make(), A), b.B is type(a.make())
    assert run(packages) == (True, True)
    """)


def test_the_import_system_knows_modules_of_a_call_as_it_does_others(
    lab: Any, notebook: Notebook
) -> None:
    notebook("""
    (HERE / "pkg" / "table.csv").write_text("a,b")
    import pkg, pkg.b
    def files():
        import importlib.resources, pkgutil
        found = importlib.resources.files("pkg").joinpath("table.csv").read_text()
        return found, pkgutil.get_data("pkg", "table.csv").decode()
    assert run(files) == ("a,b", "a,b")
    def files_of_what_is_not_imported():
        import importlib.resources
        return importlib.resources.files("pkg").joinpath("table.csv").read_text()
    assert run(files_of_what_is_not_imported) == "a,b"
    def specs():
        import importlib.util
        found = importlib.util.find_spec("pkg.b")
        return found.origin == pkg.b.__file__, found.parent, pkg.__spec__.name, found.loader.name
    assert run(specs) == (True, "pkg", "pkg", "pkg.b")
    def sources():
        source = pkg.b.__loader__.get_source("pkg.b")
        return source.strip(), importlib.reload(pkg.b) is pkg.b
    assert run(sources) == ((HERE / "pkg" / "b.py").read_text(), True)
    def as_a_program():
        import runpy
        return runpy.run_module("circle", run_name="x")["__name__"]
    assert run(as_a_program) == "x"
    """)


def test_a_call_is_as_new_as_the_notebook(lab: Any, notebook: Notebook) -> None:
    notebook("""
    import shapes
    def versions():
        import late
        from shapes import Shape, version
        return version(), Shape(1).version(), late.VERSION
    assert run(versions) == (1, 1, 1)
    edit("shapes.py", "VERSION = 1", "VERSION = 2")
    assert run(versions) == (1, 1, 1)   # the notebook still has the old one
    importlib.reload(shapes)
    assert run(versions) == (2, 2, 1)
    edit("late.py", "VERSION = 1", "VERSION = 3")
    assert run(versions) == (2, 2, 3)   # not imported here: the file counts
    """)


_SIDE_BY_SIDE = """
    import shapes
    from shapes import Shape
    flag = HERE / "flag"
    async def as_coroutine(path, late):
        import asyncio
        seen = [look()]
        if path:
            open(path, "w").close()
            while os.path.exists(path): await asyncio.sleep(0.01)
        return seen + [look()]
    def in_thread(path, late):
        import threading
        seen = [look()]
        if path:
            open(path, "w").close()
            while os.path.exists(path): threading.Event().wait(0.01)
        return seen + [look()]
    def look():
        import late, shapes
        from shapes import Shape as inner
        named = importlib.import_module("shapes")
        return late.VERSION, shapes.VERSION, inner(1).version(), inner is Shape, named is shapes
    fn = FUNCTION
    older = q.submit(fn, str(flag), 1)
    while not flag.exists() and not older.done(): time.sleep(0.01)
    edit("shapes.py", "VERSION = 1", "VERSION = 2")
    edit("late.py", "VERSION = 1", "VERSION = 2")
    importlib.reload(shapes)
    from shapes import Shape
    assert run(fn, "", 2) == [(2, 2, 2, True, True)] * 2
    flag.unlink()
    assert older.result(20) == [(1, 1, 1, True, True)] * 2
"""


@pytest.mark.parametrize(("fn", "executor"), [("in_thread", "thread"), ("as_coroutine", "process")])
def test_two_versions_of_a_module_run_side_by_side(
    shared_lab: Any, notebook: Notebook, fn: str, executor: str
) -> None:
    with shared_lab.worker(concurrency=2, executor=executor, queues={fn: 1}):
        notebook(_SIDE_BY_SIDE.replace("FUNCTION", fn), queue=fn)


_PICKLES = """
    import dataclasses
    from shapes import Shape, square
    @dataclasses.dataclass
    class Point:
        x: int
        other: "Point | None" = None
    def double(x): return 2 * x
    def same(x): return x
"""


def test_child_processes_of_a_task_get_its_functions_and_classes(
    lab: Any, notebook: Notebook
) -> None:
    notebook(
        _PICKLES
        + """
    def pool(kind):
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        context = multiprocessing.get_context(kind)
        with context.Pool(1) as workers:
            mapped = workers.map(double, [1]), workers.map(square, [3]), workers.map(Point, [1])
        with ProcessPoolExecutor(1, mp_context=context) as workers:
            return *mapped, list(workers.map(same, [Point(2), Shape(3)]))
    def late(queue, point):
        import late
        queue.put((late.VERSION, point, Shape(1)))
    def process(kind, point):
        import multiprocessing
        context = multiprocessing.get_context(kind)
        queue = context.Queue()
        child = context.Process(target=late, args=(queue, point))
        child.start()
        got = queue.get(timeout=20)
        child.join()
        return got
    for kind in ("fork", "spawn", "forkserver"):
        assert run(pool, kind) == ([2], [9], [Point(1)], [Point(2), Shape(3)]), kind
        assert run(process, kind, Point(4)) == (1, Point(4), Shape(1)), kind
    """
    )


def test_what_a_task_pickles_is_read_by_name(lab: Any, notebook: Notebook) -> None:
    notebook(
        _PICKLES
        + """
    def write(value):
        import copy, io, shelve
        class Own(pickle.Pickler): pass
        Own(io.BytesIO()).dump(value)
        pickle._dumps(value)
        copy.deepcopy(value)
        with shelve.open(str(HERE / "shelf")) as shelf: shelf["a"] = value
        return pickle.dumps(value)
    def read(data):
        import shelve
        with shelve.open(str(HERE / "shelf")) as shelf: shelf["a"]
        return pickle.loads(data)
    for value in (Point(1), Shape(2), double, square, Point, Shape, Shape.Part, [Point(1), Shape]):
        data = run(write, value)
        assert pickle.loads(data) == value
        assert b"nbqueue" not in data
        assert repr(run(read, data)).partition(" at ")[0] == repr(value).partition(" at ")[0]
        assert pickle.loads(run(pickle.dumps, value)) == value
    assert run(pickle.loads, pickle.dumps(Point(3))) == Point(3)
    def hints():
        import typing
        return typing.get_type_hints(Point)["other"]
    assert run(hints) == Point | None
    """
    )


def test_joblib_runs_code_of_the_notebook_in_its_processes(lab: Any, notebook: Notebook) -> None:
    pytest.importorskip("joblib")
    notebook(
        _PICKLES
        + """
    def inner(n):
        import shapes
        return shapes.Shape is Shape, Point(n)
    def parallel():
        import joblib
        joblib.dump([Point(1), square], str(HERE / "dumped"))
        calls = [joblib.delayed(f)(2) for f in (double, square, inner)]
        return *joblib.Parallel(2)(calls), joblib.load(str(HERE / "dumped"))[0]
    assert run(parallel) == (4, 4, (True, Point(2)), Point(1))
    """
    )
