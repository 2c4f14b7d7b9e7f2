"""The local modules of one call, in the process that runs it.

They are kept in a `ModuleSet`, so that two versions of a module can be used side by side;
`active_modules` makes them visible to imports and pickles.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Iterable, Mapping
from typing import Any

from cloudpickle import cloudpickle

from nbqueue.calls import rebuild
from nbqueue.calls.modules.active_modules import current, place, spec_of
from nbqueue.calls.modules.lazy_imports import read_text
from nbqueue.calls.pickling.local_modules import note_local
from nbqueue.calls.rebuild import LEFT_OUT, MODULES, LocalModule

_MISSING = object()
# Held while the source of a module runs, because modules of two sets may wait for each other.
_source_lock = threading.RLock()


class CallModule(LocalModule):
    """A local module that was sent with a call.

    It may only have those names that the call refers to. Another name is looked up among the names
    sent separately, and then created by running the module's source.
    """

    def __getattr__(self, name: str) -> Any:
        modules = vars(self).get(MODULES)
        if modules is not None:
            found = modules.find_missing(self, name)
            if found is not _MISSING:
                return found
        return super().__getattr__(name)


class ModuleSet:
    """The local modules of a call, and its sender's ``__main__``, by name.

    The set of a call's arguments has the set of its function as ``parent``. ``blob`` is the stored
    function, from which a child process can load the modules again.
    """

    def __init__(
        self,
        sources: Mapping[str, str] | None = None,
        parent: ModuleSet | None = None,
        blob: bytes = b"",
    ) -> None:
        self.modules: dict[str, CallModule] = {}
        self.parent = parent
        # its length is the number of calls that use these modules now
        self.running: list[None] = []
        self.blob = blob
        # Functions and classes by module and name in the sender's process.
        self.names: dict[tuple[str, str], Any] = {}
        self._known: set[int] = set()
        # The source of each file that code of the call came from, and of modules not yet run.
        self._sources = {} if sources is None else sources
        self._texts: dict[str, str] = {}
        self._top_names: dict[str, frozenset[str]] = {}
        self._whole: set[str] = set()
        self._started: set[str] = set()
        self._ready: set[str] = set()
        if parent is None:
            self.make_module("__main__", {})

    # --- Lookup ---

    def get(self, name: str) -> CallModule | None:
        """Return the module with this name that code of the call should see."""
        own = self.modules.get(name)
        if self.parent is None or name in self._whole:
            return own
        return self.parent.get(name) or own

    def all_modules(self) -> dict[str, CallModule]:
        """Return all modules by name."""
        if self.parent is None:
            return self.modules
        names = {**self.parent.modules, **self.modules}
        return {name: module for name in names if (module := self.get(name)) is not None}

    def find_name(self, module: str, name: str) -> Any:
        """Return a function or class sent without its module, or a marker."""
        found = self.names.get((module, name), _MISSING)
        if found is _MISSING:
            inner = [key[1] for key in self.names if key[0] == module and "." in key[1]]
            if any(each.startswith(f"{name}.") for each in inner):
                # Its outer class was not sent: pickle only needs to find the attribute.
                return _Owner(self, module, name)
            if self.parent is not None:
                return self.parent.find_name(module, name)
        return found

    def find_missing(self, module: CallModule, name: str) -> Any:
        """Return a name that ``module`` lacks, from separate names or from its source."""
        full = module.__name__
        arguments = current()
        if arguments is None or arguments.parent is not self:
            arguments = self
        found = arguments.find_name(full, name)
        if found is not _MISSING or full == "__main__":
            return found
        if name in vars(module).get(LEFT_OUT, ()) or name not in self._names_in_source(module):
            return _MISSING
        self._make_ready(module, complete=True)
        return vars(module).get(name, _MISSING)

    # --- Called by pickles while they load ---

    def make_module(self, name: str, names: dict[str, Any]) -> CallModule:
        """Return an empty module ``name``; the rest of the pickle fills it."""
        if rebuild.DETACHED in names:
            module = CallModule(name)
        elif self.parent is not None and self.parent._is_whole(name):
            return self.parent.modules[name]
        else:
            module = self.modules.get(name) or CallModule(name)
            self.modules[name] = module
        note_local(module)
        vars(module).update(names)
        vars(module)[MODULES] = self
        if name != "__main__":
            module.__spec__ = spec_of(module)
            module.__loader__ = module.__spec__.loader
        return module

    def set_module(self, module: CallModule, state: tuple[dict[str, Any], dict[str, str]]) -> None:
        """Give a module its names, unless it already has them from the function."""
        if vars(module)[MODULES] is self:
            rebuild.set_module(module, state)
            if self.modules.get(module.__name__) is module:
                self._whole.add(module.__name__)

    def set_class(self, cls: type, state: Any) -> None:
        """Give a class its attributes, and record it by its name."""
        rebuild.set_class(cls, state)
        if "<locals>" not in cls.__qualname__:
            self.names[cls.__module__, cls.__qualname__] = cls

    def named_class(
        self, module: str, file: str, name: str, tracker: str, maker: Any, *args: Any
    ) -> type:
        """Return a class that another task returned, or the call's own class."""
        if cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker) is None:
            try:
                owner: Any = self.load(module)
                for part in name.split("."):
                    owner = getattr(owner, part)
            except Exception:  # the source of the module may run here
                owner = None
            if isinstance(owner, type):
                return rebuild.adopt_class(owner, tracker)
        made: type = maker(*args)
        return made

    def make_function(
        self,
        code: types.CodeType,
        names: dict[str, Any],
        name: str | None = None,
        defaults: Any = None,
        closure: Any = None,
    ) -> Any:
        """Return a function.

        For an argument, it is the call's own function if that is identical.
        """
        names.setdefault(MODULES, self)  # a namespace without a module
        if name is None:
            return cloudpickle._make_function(code, names, name, defaults, closure)
        key = names.get("__name__", ""), name
        if self.parent is not None:
            known = self.parent.names.get(key)
            if getattr(known, "__code__", None) == code:
                self._known.add(id(known))
                return known
        made = cloudpickle._make_function(code, names, name, defaults, closure)
        self.names[key] = made
        return made

    def set_function(self, fn: types.FunctionType, state: Any) -> None:
        """Give a function its attributes and globals, unless it has them."""
        if id(fn) in self._known:
            return
        space = fn.__globals__
        if space.get(MODULES) is not self:  # a module of the function's, which keeps its state
            attributes, slots = state
            names = slots["__globals__"].items()
            slots = {**slots, "__globals__": {k: v for k, v in names if k not in space}}
            state = attributes, slots
        cloudpickle._function_setstate(fn, state)

    def add_source(
        self, name: str, file: str | None, folders: tuple[str, ...] | None, text: str
    ) -> None:
        """Add an unimported module; its source runs when it is imported."""
        if self.get(name) is not None:
            return
        names: dict[str, Any] = {"__package__": name if folders else name.rpartition(".")[0]}
        if file is not None:
            names["__file__"] = file
        if folders is not None:
            names["__path__"] = list(folders)
        self.make_module(name, names)
        self._texts[name] = text

    # --- Imports ---

    def import_name(
        self, name: str, names: Mapping[str, Any], wanted: Iterable[str], level: int
    ) -> types.ModuleType | None:
        """Import a name like an ``import`` statement; None for other modules."""
        if level:
            package = names.get("__package__") or names.get("__name__", "").rpartition(".")[0]
            folders = package.split(".")
            if not package or level > len(folders):
                return None
            name = ".".join([*folders[: len(folders) - level + 1], *([name] if name else [])])
        if self.get(name.partition(".")[0]) is None:
            return None
        module = self.load(name)
        if module is None or not wanted:
            return self.get(name.partition(".")[0]) if module is not None else None
        for each in wanted:
            self._provide(module, each)
        return module

    def load(self, name: str) -> CallModule | None:
        """Return the module ``name``, ready for use, with its parent packages."""
        module = parent = None
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            parent, module = module, self.get(".".join(parts[:end]))
            if module is None:
                return None
            self._make_ready(module)
            if parent is not None:
                vars(parent).setdefault(parts[end - 1], module)
        return module

    def _provide(self, module: CallModule, name: str) -> None:
        """Make ``from module import name`` find a submodule.

        Raises the reason if that is impossible.
        """
        if name in vars(module) or name == "*":
            return
        submodule = f"{module.__name__}.{name}"
        if self.get(submodule) is not None:
            self.load(submodule)
            return
        reason = vars(module).get(LEFT_OUT, {}).get(name)
        if reason is not None:
            raise ImportError(
                f"{module.__name__}.{name} was not sent with the call: {reason}",
                name=module.__name__,
            )

    # --- Running the source of a module ---

    def _make_ready(self, module: CallModule, complete: bool = False) -> None:
        """Run the source of ``module`` if the names that it lacks require it."""
        owner: ModuleSet = vars(module)[MODULES]
        name = module.__name__
        if name in owner._ready:
            return
        with _source_lock:
            if name in owner._started:
                return  # modules that import each other
            if name in owner._texts:
                owner._started.add(name)
                place(owner, name, module)
                owner._run_source(module)
            elif complete or vars(module).get(LEFT_OUT):
                owner._started.add(name)
                owner._complete(module)
            else:
                return
            owner._ready.add(name)

    def _run_source(self, module: CallModule) -> None:
        """Run the source of a module that the sender did not import."""
        name, space = module.__name__, vars(module)
        before = dict(space)
        try:
            file = space.get("__file__", f"<{name}>")
            exec(compile(self._texts[name], file, "exec", dont_inherit=True), space)
        except BaseException:
            self._started.discard(name)
            space.clear()
            space.update(before)
            raise
        self._whole.add(name)

    def _complete(self, module: CallModule) -> None:
        """Run the source of a module for its missing names; existing names stay."""
        code = self._compiled(module)
        if code is None:
            return
        space = vars(module)
        before = dict(space)
        left_out = dict(space.get(LEFT_OUT, {}))
        try:
            exec(code, space)
        except Exception as error:
            why = f"; and its source fails here: {type(error).__name__}: {error}"
            left_out = {name: (reason + why)[:1000] for name, reason in left_out.items()}
        space.update(before)
        space[LEFT_OUT] = {k: reason for k, reason in left_out.items() if k not in space}

    def _names_in_source(self, module: CallModule) -> frozenset[str]:
        name = module.__name__
        found = self._top_names.get(name)
        if found is None:
            code = self._compiled(module)
            found = frozenset(code.co_names if code is not None else ())
            self._top_names[name] = found
        return found

    def _compiled(self, module: CallModule) -> types.CodeType | None:
        text = self.source_of(module)
        if not text:
            return None
        try:
            return compile(text, str(vars(module).get("__file__")), "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return None

    def source_of(self, module: CallModule) -> str | None:
        """Return the source of ``module`` as it was sent, or from its file."""
        file = vars(module).get("__file__")
        text = self._texts.get(module.__name__)
        if text is None and isinstance(file, str):
            text = self._sources.get(file) or read_text(file)
        return text

    def _is_whole(self, name: str) -> bool:
        return name in self._whole or name in self._texts

    def is_waiting(self, name: str) -> bool:
        """Return whether the source of module ``name`` has not run yet."""
        if name in self._texts:
            return name not in self._ready
        return self.parent is not None and name not in self.modules and self.parent.is_waiting(name)


class _Owner:
    """Stands for an outer class of which only a nested class was sent."""

    def __init__(self, modules: ModuleSet, module: str, name: str) -> None:
        self._place = modules, module, name

    def __getattr__(self, name: str) -> Any:
        modules, module, owner = self._place
        found = modules.find_name(module, f"{owner}.{name}")
        if found is _MISSING:
            raise AttributeError(f"{module}.{owner}.{name} was not sent with the call")
        return found
