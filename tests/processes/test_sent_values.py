"""Slots, sentinels, type variables, dispatchers and odd exceptions, to a worker and back.

All of it twice: defined in a notebook, and in a local module that the worker does not have.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nbqueue
from nbqueue.calls import functions
from nbqueue.calls.exceptions import RemoteTraceback
from nbqueue.errors import CannotPickle, TaskFailed

Space = dict[str, Any]

SOURCE = '''
import abc, collections, contextvars, copyreg, dataclasses, datetime, enum, functools, sys
import threading, typing, weakref
from dataclasses import dataclass, field

# --- slots

@dataclass(slots=True)
class Point:
    x: int
    tags: list = field(default_factory=list)

@dataclass(frozen=True, slots=True)
class Fixed:
    x: int

@dataclass(slots=True)
class Child(Point):
    y: int = 0

class Base:
    __slots__ = ("a", "__hidden", "unset")
    def __init__(self): self.a, self.__hidden = 1, 2
    def hidden(self): return self.__hidden

class Below(Base):
    __slots__ = "b"
    def __init__(self):
        super().__init__()
        self.b = 3
    def own_class(self): return __class__

class Open(Base):
    pass

class OfOpen(Open):
    __slots__ = ("c",)

class Weak:
    __slots__ = ("x", "__weakref__")

class Hidden:
    __slots__ = "__only"
    def __init__(self): self.__only = 5
    def get(self): return self.__only

class Iterated:
    __slots__ = (name for name in ["x"])

class Abstract(abc.ABC):
    __slots__ = ()
    @abc.abstractmethod
    def get(self): ...

class Concrete(Abstract):
    __slots__ = ("x",)
    def get(self): return self.x

class Meta(type):
    pass

class OfMeta(metaclass=Meta):
    __slots__ = ("x",)

T = typing.TypeVar("T")

class Box(typing.Generic[T]):
    __slots__ = ("value",)
    def __init__(self, value): self.value = value

class Pair(typing.NamedTuple):
    a: int
    b: str = "b"

class Borrows:
    from_parts = classmethod(collections.UserDict.fromkeys.__func__)

if sys.version_info >= (3, 11):
    class Item(typing.NamedTuple, typing.Generic[T]):
        a: T
else:
    Item = Pair

class Number(int):
    __slots__ = ()

@dataclass(slots=True)
class Node:
    name: str
    up: "Node | None" = None
    down: list["Node"] = field(default_factory=list)

def family():
    top = Node("top")
    top.down.append(Node("child", top))
    return top

def grow(node):
    node.down.append(Node("second", node))
    return node

def takes(cls, name):
    """Whether instances take an attribute that is no slot."""
    made = cls.__new__(cls)
    try:
        setattr(made, name, 1)
    except AttributeError:
        return False
    return True

# --- names

class Sentinel:
    def __init__(self, name): self.name = name
    def __reduce__(self): return self.name

MISSING = Sentinel("MISSING")

class Single:
    made = None
    def __new__(cls):
        if cls.made is None:
            cls.made = super().__new__(cls)
        return cls.made
    def __reduce__(self): return "ONLY"
    def is_only(self): return self is ONLY

ONLY = Single()

class Word(str):
    __slots__ = ()
    def __reduce__(self): return str(self)

WORD = Word("WORD")

class Registered:
    pass

copyreg.pickle(Registered, lambda obj: "REGISTERED")
REGISTERED = Registered()

class Locked:
    def __init__(self, n): self.n, self.lock = n, threading.Lock()

copyreg.pickle(Locked, lambda obj: (Locked, (obj.n,)))

class Settings:
    def __init__(self, name): self.name = name
    def __reduce__(self):
        if self.name == "by attribute":
            return getattr, (sys.modules[__name__], "ATTRIBUTE")
        return (get_settings, ()) if self.name == "by call" else (find_settings, (self.name,))

SETTINGS = Settings("by call")
FOUND = {"found": Settings("found")}
ATTRIBUTE = Settings("by attribute")

def get_settings(): return SETTINGS
def find_settings(name): return FOUND[name]

class Symbol:
    known = {}
    def __new__(cls, name):
        if name not in cls.known:
            cls.known[name] = super().__new__(cls)
            cls.known[name].name = name
        return cls.known[name]
    def __reduce__(self): return Symbol, (self.name,)

class Unit:
    known = {}
    def __init__(self, name): self.name = name
    @classmethod
    def get(cls, name): return cls.known.setdefault(name, cls(name))
    def __reduce__(self): return Unit.get, (self.name,)

SYMBOL, UNIT = Symbol("s"), Unit.get("u")

class Planet(enum.Enum):
    EARTH = (5.97, "blue")
    MARS = (0.64, "red")
    TERRA = EARTH
    def __init__(self, mass, colour): self.mass, self.colour = mass, [colour]
    @classmethod
    def heaviest(cls): return cls.EARTH

class Coordinate(bytes, enum.Enum):
    PX = (0, "P.X")
    PY = (1, "P.Y")
    def __new__(cls, value, label):
        made = bytes.__new__(cls, [value])
        made._value_, made.label = value, label
        return made

@dataclass(frozen=True)
class Weight:
    grams: int

class Coin(Weight, enum.Enum):
    CENT = 2
    DIME = 4

class Day(datetime.date, enum.Enum):
    FIRST = 1970, 1, 1

class Pairs(tuple, enum.Enum):
    A = (1, 2)
    B = ((3,),)

class Access(enum.Flag):
    R = 1
    W = 2
    RW = R | W

class Kept(enum.IntFlag):
    A = 1
    ALL = 255

class Counting(enum.EnumMeta):
    @property
    def count(cls): return len(cls.__members__)

class Counted(enum.Enum, metaclass=Counting):
    ONE = []
    TWO = {}

class OfEnum(str, enum.Enum):
    def shout(self): return self.value.upper() + self.end
    @property
    def end(self): return "!"

class Words(OfEnum):
    HI = "hi"
    name_ = "name"

class Level(enum.IntEnum):
    LOW = 1
    def __reduce_ex__(self, protocol): return self.name

LOW = Level.LOW
BARE = object()

def absent(x=MISSING): return x is MISSING
def bare(x=BARE): return x is BARE

P = typing.ParamSpec("P")
Bounded = typing.TypeVar("Bounded", bound=Base)
Either = typing.TypeVar("Either", int, str)

def logged(f: typing.Callable[P, T]) -> typing.Callable[P, T]:
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        return f(*args, **kwargs)
    return inner

@logged
def plus(x: int) -> int:
    return x + 1

# --- what works within a process

@functools.singledispatch
def show(x): return "any"

@show.register
def _(x: int): return "int"

@show.register
def _(x: Point): return f"point {x.x}"

@show.register(list)
def _(x): return [show(each) for each in x]

class Shower:
    @functools.singledispatchmethod
    def show(self, x): return "any"
    @show.register
    def _(self, x: int): return "int"

var = contextvars.ContextVar("var", default=3)
empty = contextvars.ContextVar("empty")

class Key:
    pass

keys = [Key(), Key()]
by_key = weakref.WeakKeyDictionary({key: n for n, key in enumerate(keys)})
by_number = weakref.WeakValueDictionary(enumerate(keys))
weak_set = weakref.WeakSet(keys)

# --- exceptions

@dataclass(frozen=True)
class Frozen(Exception):
    user: str
    code: int = 0

@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    user: str

class BelowFrozenSlots(FrozenSlots):
    pass

class Slotted(Exception):
    __slots__ = ("user", "code")
    def __init__(self, user, code=0):
        super().__init__(f"user {user}")
        self.user, self.code = user, code

class Told(Exception):
    def __init__(self, user):
        super().__init__(f"user {user} is gone")
        self.user = user

class ByKeyword(Exception):
    def __init__(self, *, code): self.code = code

class Closed(Exception):
    def __init__(self, user): vars(self)["user"] = user
    def __setattr__(self, name, value): raise RuntimeError("closed")

class OwnCause(Exception):
    @property
    def __cause__(self): return "my own"
    @property
    def __notes__(self): raise RuntimeError("no notes")

class NetError(OSError):
    def __init__(self, user):
        super().__init__(5, "broken", "/file")
        self.user = user

class Holds(Exception):
    def __init__(self, user): self.user, self.lock = user, threading.Lock()

class Unmakeable(Exception):
    def __new__(cls, *args):
        if args != ("secret",): raise TypeError("not so")
        return super().__new__(cls, *args)
    def __init__(self, *args): super().__init__("other")

def fail(make, *args, **kwargs):
    raise make(*args, **kwargs)

def give(x): return x
'''


@pytest.fixture(scope="module", params=["notebook", "module"])
def space(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Space]:
    """The names of `SOURCE`, of a cell or of a module that workers lack."""
    if request.param == "notebook":
        cell: Space = {"__name__": "__main__"}
        exec(compile(SOURCE, "<cell>", "exec"), cell)
        yield cell
        return
    path = tmp_path_factory.mktemp("local") / "odd_values.py"
    path.write_text(SOURCE)
    yield vars(imported(path))
    del sys.modules["odd_values"]


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lab(shared_lab: Any) -> Iterator[Any]:
    with shared_lab.worker(concurrency=2):
        yield shared_lab


def run(lab: Any, space: Space, function: str, *arguments: str) -> Any:
    """Return a worker's result for expressions of a function and its arguments."""
    args = [eval(each, space) for each in arguments]
    return lab.value(lab.submit(eval(function, space), *args))


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("lambda: Point(1)", [], "Point(1)"),
        ("lambda p: Point(p.x + 1, [p])", ["Point(1)"], "Point(2, [Point(1)])"),
        ("give", ["[Fixed(1), {Fixed(2): Point(3)}]"], "[Fixed(1), {Fixed(2): Point(3)}]"),
        ("lambda: Child(1, [], 2)", [], "Child(1, [], 2)"),
        ("lambda: Pair(1)", [], "Pair(1)"),
        ("lambda n: Number(n + 1)", ["Number(2)"], "Number(3)"),
        ("lambda: (Hidden().get(), Below().hidden(), Below().b)", [], "(5, 2, 3)"),
        ("lambda: Below().own_class() is Below", [], "True"),
        ("lambda: [takes(c, 'typo') for c in (Point, Base, Below, Weak, Hidden, Iterated)]", [],
         "[False] * 6"),
        ("lambda: [takes(c, 'typo') for c in (Concrete, OfMeta, Box, Number, Node)]", [],
         "[False] * 5"),
        ("lambda: [takes(c, 'x') for c in (Open, OfOpen, Weak, Iterated, OfMeta)]", [],
         "[True] * 5"),
        ("lambda: hasattr(Weak, '__weakref__') and not hasattr(Base, '__weakref__')", [], "True"),
        ("lambda cls: takes(cls, 'typo')", ["Point"], "False"),
        ("lambda: [f.default is dataclasses.MISSING for f in dataclasses.fields(Frozen)]", [],
         "[True, False]"),
    ],
)  # fmt: skip
def test_classes_keep_their_slots(
    lab: Any, space: Space, function: str, arguments: list[str], expected: str
) -> None:
    found, wanted = run(lab, space, function, *arguments), eval(expected, space)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("function", "argument", "expected"),
    [
        ("lambda x: (x.mass, x.colour, Planet.heaviest().colour)", "Planet.MARS",
         (0.64, ["red"], ["blue"])),
        ("lambda x: (x is Planet.TERRA, Planet['TERRA'].name, len(Planet))", "Planet.EARTH",
         (True, "EARTH", 2)),
        ("lambda x: (bytes(x), x.label, x.value, x is Coordinate(1))", "Coordinate.PY",
         (b"\1", "P.Y", 1, True)),
        ("lambda x: (x.grams, x is Coin.DIME, Coin.CENT.grams)", "Coin.DIME", (4, True, 2)),
        ("lambda x: (x.year, x is Day.FIRST)", "Day.FIRST", (1970, True)),
        ("lambda x: (tuple(x), x is Pairs.B, tuple(Pairs.A))", "Pairs.B", (((3,),), True, (1, 2))),
        ("lambda x: (x is Access['RW'], Access.R in x, ~Access.R is Access.W, len(Access(3)))"
         " if sys.version_info >= (3, 11) else (True, True, True, 2)", "Access.RW",
         (True, True, True, 2)),
        ("lambda x: (x.count, Counted([]) is Counted.ONE, x.TWO.value)", "Counted",
         (2, True, {})),
        ("lambda x: (x.shout(), x, Words('name').name)", "Words.HI", ("HI!", "hi", "name_")),
        ("lambda x: (int(Kept['ALL']), x is Kept.A, int(Kept(2) | x))", "Kept.A", (255, True, 3)),
    ],
)  # fmt: skip
def test_members_of_enumerations_keep_what_they_hold(
    lab: Any, space: Space, function: str, argument: str, expected: object
) -> None:
    assert run(lab, space, function, argument) == expected
    back = run(lab, space, "lambda x: [x]", argument)
    assert back[0] is eval(argument, space)


def test_functions_that_installed_classes_have_as_methods_travel_by_name(
    lab: Any, space: Space
) -> None:
    assert run(lab, space, "lambda: (Item(1), Item[int](2)) == ((1,), (2,)) or Item is Pair")
    assert run(lab, space, "lambda: Borrows.from_parts.__func__.__qualname__") == (
        "UserDict.fromkeys"
    )


@pytest.mark.parametrize(
    "name", ["Base", "Below", "Open", "OfOpen", "Hidden", "Concrete", "OfMeta", "Weak"]
)
def test_instances_with_slots_come_back_as_the_users_own_class(
    lab: Any, space: Space, name: str
) -> None:
    made = space[name]()
    if hasattr(space[name], "x"):
        made.x = [1]
    back = lab.value(lab.submit(space["give"], made))
    assert type(back) is space[name]
    for attribute in ("a", "_Base__hidden", "b", "unset", "x", "_Hidden__only"):
        assert getattr(back, attribute, None) == getattr(made, attribute, None)


def test_a_graph_of_slotted_objects_keeps_its_shape(lab: Any, space: Space) -> None:
    top = run(lab, space, "grow", "family()")
    assert [node.name for node in top.down] == ["child", "second"]
    assert all(node.up is top and type(node) is space["Node"] for node in top.down)


def test_a_class_of_the_same_name_in_a_later_cell_is_another_class(lab: Any, space: Space) -> None:
    names = {"__name__": space["__name__"], "Old": space["Point"], "dataclass": space["dataclass"]}
    cell = "@dataclass(slots=True)\nclass Point:\n    x: int\n    z: int = 9\n"
    exec(cell + "def both(old): return Point(old.x), old, Old(4)", names)
    new, old, made = lab.value(lab.submit(names["both"], space["Point"](1)))
    assert (new.x, new.z, type(new)) == (1, 9, names["Point"])
    assert (old, made) == (space["Point"](1), space["Point"](4))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("absent", []),
        ("absent", ["MISSING"]),
        ("lambda x: x is ONLY and x is Single() and x.is_only()", ["ONLY"]),
        ("lambda x: x is WORD and x == 'WORD'", ["WORD"]),
        ("lambda x: x is REGISTERED", ["REGISTERED"]),
        ("lambda x: x is SETTINGS and x is get_settings() and x.name == 'by call'", ["SETTINGS"]),
        ("lambda x: x is find_settings('found') and x is FOUND[x.name]", ["FOUND['found']"]),
        ("lambda x: x is SYMBOL and x is Symbol('s') and x.name == 's'", ["SYMBOL"]),
        ("lambda x: x is UNIT and x is Unit.get('u') and x.name == 'u'", ["UNIT"]),
        ("lambda x: x is LOW and x is Level(1)", ["LOW"]),
        ("bare", []),
        ("bare", ["BARE"]),
        ("lambda x: x is P and x.args == P.args", ["P"]),
        ("lambda: Bounded.__bound__ is Base and Either.__constraints__ == (int, str)", []),
        ("lambda x: x is Bounded", ["Bounded"]),
        ("lambda x: x is dataclasses.MISSING", ["dataclasses.MISSING"]),
        ("lambda: plus(1) == 2", []),
    ],
)
def test_what_has_a_name_is_one_object_on_the_worker(
    lab: Any, space: Space, function: str, arguments: list[str]
) -> None:
    assert run(lab, space, function, *arguments) is True


@pytest.mark.parametrize(
    "name",
    [
        "MISSING",
        "ONLY",
        "WORD",
        "REGISTERED",
        "LOW",
        "SETTINGS",
        "SYMBOL",
        "UNIT",
        "BARE",
        "P",
        "T",
        "Bounded",
        "Either",
        "var",
    ],
)
def test_what_has_a_name_comes_back_as_itself(lab: Any, space: Space, name: str) -> None:
    assert run(lab, space, f"lambda: {name}") is space[name]
    assert run(lab, space, "lambda x: [x]", name)[0] is space[name]


def test_what_copyreg_knows_of_a_class_goes_with_it(lab: Any, space: Space) -> None:
    assert run(lab, space, "lambda x: Locked(x.n + 1)", "Locked(2)").n == 3


def test_an_object_that_says_it_is_an_attribute_of_a_local_module_travels(
    lab: Any, tmp_path: Path
) -> None:
    path = tmp_path / "odd_attributes.py"
    path.write_text(SOURCE)
    names = vars(imported(path))
    try:
        assert run(lab, names, "lambda x: x is ATTRIBUTE and x.name", "ATTRIBUTE") == "by attribute"
        assert run(lab, names, "lambda: ATTRIBUTE") is names["ATTRIBUTE"]
    finally:
        del sys.modules["odd_attributes"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_aliases_and_type_parameters_of_the_type_statement_travel(lab: Any) -> None:
    cell = """
type Json = dict[str, Json] | int
type Many[T] = list[T]
class Tree[N: Tree]:
    def get(self) -> N: return self
def read[T, **P](x: Json, y: Many[T], *a: P.args, **k: P.kwargs) -> T: return x
def value(alias): return alias is Json, alias.__value__
def bound(): return Tree.__type_params__[0].__bound__ is Tree
"""
    names: Space = {"__name__": "__main__"}
    exec(cell, names)
    assert lab.value(lab.submit(names["read"], 1, [2])) == 1
    assert lab.value(lab.submit(names["value"], names["Json"])) == (True, names["Json"].__value__)
    assert lab.value(lab.submit(names["bound"])) is True


@pytest.mark.skipif(sys.version_info < (3, 13), reason="defaults came with Python 3.13")
def test_defaults_of_type_variables_travel(lab: Any) -> None:
    names: Space = {"__name__": "__main__"}
    cell = "import typing\nA = typing.TypeVar('A', default=None)\nB = typing.TypeVar('B')\n"
    exec(cell + "def has(): return A.__default__, A.has_default(), B.has_default()", names)
    assert lab.value(lab.submit(names["has"])) == (None, True, False)


def test_single_dispatch_functions_travel(lab: Any, space: Space) -> None:
    assert run(lab, space, "show", "[1, 'a', Point(2), [3.0]]") == [
        "int",
        "any",
        "point 2",
        ["any"],
    ]
    assert run(lab, space, "lambda: (show.__name__, show.dispatch(bool)(True))") == ("show", "int")
    assert run(lab, space, "lambda s: [s.show(1), s.show('')]", "Shower()") == ["int", "any"]
    assert run(lab, space, "lambda: show")([1]) == ["int"]


def test_context_variables_travel_with_their_value(lab: Any, space: Space) -> None:
    assert run(lab, space, "lambda: (var.get(), empty.get(None))") == (3, None)
    token = space["var"].set(4)
    try:
        assert run(lab, space, "lambda: var.get()") == 4
        assert run(lab, space, "lambda v: v is var", "var") is True
    finally:
        space["var"].reset(token)
    assert run(lab, space, "lambda: var.get()") == 3


def test_weak_containers_travel_with_what_they_hold(lab: Any, space: Space) -> None:
    assert run(lab, space, "lambda: (sorted(by_key.values()), len(weak_set))") == ([0, 1], 2)
    back = run(lab, space, "lambda: by_number")
    assert sorted(back) == [0, 1]
    assert type(back[0]) is space["Key"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("weakref.ref(keys[0])", "weakref.ReferenceType, .*: .*pass the object itself"),
        ("weakref.WeakMethod(MISSING.__reduce__)", "pass the object itself"),
        ("weakref.finalize(keys[0], print)", "weakref.finalize, .*: .*create it inside"),
        ("type('Own', (weakref.WeakValueDictionary,), {})()", "make a dict of it"),
        ("var.set(3)", "Token, .*: .*keep it where set"),
        ("contextvars.copy_context()", "Context, .*: .*pass the values"),
    ],
)
def test_what_belongs_to_one_process_is_refused_with_advice(
    space: Space, value: str, message: str
) -> None:
    found = eval(value, space)
    with pytest.raises(CannotPickle, match=message):
        functions.dump_arguments((found,), {})
    space["found"] = found
    with pytest.raises(CannotPickle, match=f"the global 'found', .*{message}"):
        functions.dump_function(eval("lambda: found", space))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("MISSING", r"attribute 'lock' of .*Sentinel, a _thread.lock"),
        ("slotted", r"attribute 'code' of .*Slotted, a _thread.lock"),
        ("weakref.WeakKeyDictionary({lock_key: 1})", "attribute 'lock' of .*Key, a _thread.lock"),
        ("lock_var", "the value of the context variable 'lock_var', a _thread.lock"),
        ("show_lock", "calls its implementation for int, which uses the global 'lock'"),
    ],
)
def test_the_culprit_within_is_named(value: str, message: str) -> None:
    cell: Space = {"__name__": "__main__"}
    exec(SOURCE, cell)
    more = """
lock = threading.Lock()
MISSING.lock = lock
slotted = Slotted("a", lock)
lock_key = Key()
lock_key.lock = lock
lock_var = contextvars.ContextVar("lock_var", default=lock)
@functools.singledispatch
def show_lock(x): return 1
@show_lock.register
def _(x: int): return lock
"""
    exec(more, cell)
    with pytest.raises(CannotPickle, match=message):
        functions.dump_arguments((eval(value, cell),), {})


ERRORS = [
    "Frozen('a', 3)",
    "Frozen(user='a')",
    "FrozenSlots('a')",
    "FrozenSlots(user='a')",
    "BelowFrozenSlots('a')",
    "Slotted('a', 3)",
    "Told('a')",
    "ByKeyword(code=3)",
    "Closed('a')",
    "OwnCause('a')",
    "NetError('a')",
]


@pytest.mark.parametrize("expression", ERRORS)
def test_exceptions_that_refuse_attributes_arrive_whole(
    lab: Any, space: Space, expression: str
) -> None:
    made = eval(expression, space)
    raised = lab.error(lab.submit(eval(f"lambda: fail(give, {expression})", space)))
    for back in (
        raised,
        run(lab, space, f"lambda: {expression}"),
        run(lab, space, "give", expression),
    ):
        assert type(back) is type(made)
        assert back.args == made.args
        assert str(back) == str(made)
        for name in ("user", "code", "errno", "strerror", "filename"):
            assert getattr(back, name, None) == getattr(made, name, None)
    cause = vars(BaseException)["__cause__"].__get__(raised)
    assert isinstance(cause, RemoteTraceback)
    assert "in fail" in str(cause)


def test_an_exception_that_cannot_be_made_again_is_refused_as_an_argument(space: Space) -> None:
    with pytest.raises(CannotPickle, match=r"argument 1, an? .*Unmakeable.*not so"):
        functions.dump_arguments((space["Unmakeable"]("secret"),), {})


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
class TestGroups:
    @pytest.mark.parametrize(
        ("members", "kinds"),
        [
            ("Holds('a'), ValueError('b')", ["Holds", "ValueError"]),
            ("Frozen('a'), Slotted('b')", ["Frozen", "Slotted"]),
            ("Unmakeable('secret'), Told('a')", ["TaskFailed", "Told"]),
            ("ExceptionGroup('in', [Holds('a')]), KeyError(1)", ["ExceptionGroup", "KeyError"]),
            (
                "*[ValueError('x' * 300_000) for _ in range(5)], KeyError(1)",
                ["TaskFailed"] * 5 + ["KeyError"],
            ),
        ],
    )
    def test_a_group_comes_with_its_members_or_what_stands_in_for_them(
        self, lab: Any, space: Space, members: str, kinds: list[str]
    ) -> None:
        function = f"lambda: fail(ExceptionGroup, 'some failed', [{members}])"
        back = lab.error(lab.submit(eval(function, space)))
        assert type(back).__name__ == "ExceptionGroup"
        assert back.message == "some failed"
        assert [type(each).__name__ for each in back.exceptions] == kinds
        for each in back.exceptions:
            assert not isinstance(each, TaskFailed) or each.task_id
        assert isinstance(back.__cause__, RemoteTraceback)

    def test_a_member_of_the_group_is_of_the_users_own_class(self, lab: Any, space: Space) -> None:
        function = "lambda: fail(ExceptionGroup, 'm', [ExceptionGroup('in', [Holds('a')])])"
        back = lab.error(lab.submit(eval(function, space)))
        held, rest = back.split(space["Holds"])
        assert rest is None
        assert held.exceptions[0].exceptions[0].user == "a"


@pytest.fixture
def q(shared_lab: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("NBQUEUE_KEY", "5b" * 32)
    client = nbqueue.connect(shared_lab.url)
    yield client
    client.close()


@pytest.mark.parametrize("expression", ["Frozen('a', 3)", "FrozenSlots('a')", "Closed('a')"])
def test_exceptions_that_refuse_attributes_are_tried_again(
    lab: Any, q: Any, space: Space, expression: str
) -> None:
    made = eval(expression, space)
    picky = q.options(retry=2, retry_delay=0.01, retry_on=type(made))
    f = picky.submit(eval(f"lambda: fail(give, {expression})", space))
    assert type(f.exception(20)) is type(made)
    assert lab.outcomes(f.id) == ["retry", "retry", "archived"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_a_group_with_an_exit_in_it_is_raised_as_a_group_of_exceptions(lab: Any, q: Any) -> None:
    names: Space = {"__name__": "__main__"}
    exec("def leave(): raise BaseExceptionGroup('m', [SystemExit(3), KeyError(1)])", names)
    error = q.submit(names["leave"]).exception(20)
    assert isinstance(error, Exception)
    assert [type(each) for each in error.exceptions] == [TaskFailed, KeyError]  # type: ignore[attr-defined]
    assert "SystemExit: 3" in str(error.exceptions[0])  # type: ignore[attr-defined]
