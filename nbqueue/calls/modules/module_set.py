"""The local modules of one call, in the process that runs it.

A call brings its local modules along. They are kept in a `ModuleSet`, so that an older and a newer
version of a module can be used side by side; `active` lets imports and pickles find them.
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
# Held while the source of a module runs: modules of two sets may wait for each other.
_source_lock = threading.RLock()


class CallModule(LocalModule):
    """A local module that came with a call.

    Only those of its names may be here that the call refers to. Another one is looked up among what
    came beside the module, and then made by running the source of the module.
    """

    def __getattr__(self, name: str) -> Any:
        modules = vars(self).get(MODULES)
        if modules is not None:
            found = modules.find_missing(self, name)
            if found is not _MISSING:
                return found
        return super().__getattr__(name)


class ModuleSet:
    """The local modules of one call, and ``__main__`` of its sender, by name.

    ``parent`` is the set of the function where this one is of its arguments. ``blob`` is the stored
    function, from which a child process can make the modules again.
    """

    def __init__(
        self,
        sources: Mapping[str, str] | None = None,
        parent: ModuleSet | None = None,
        blob: bytes = b"",
    ) -> None:
        self.modules: dict[str, CallModule] = {}
        self.parent = parent
        self.running: list[None] = []  # as long as the number of calls that use these modules now
        self.blob = blob
        # Functions and classes by the names under which the sender finds them.
        self.names: dict[tuple[str, str], Any] = {}
        self._known: set[int] = set()
        # The text of each file that code of the call came from, and of modules not yet run.
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
        """Return the module of this name that code of the call is to see."""
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
        """Return the function or class that came beside its module, or a marker if none did."""
        found = self.names.get((module, name), _MISSING)
        if found is _MISSING:
            inner = [key[1] for key in self.names if key[0] == module and "." in key[1]]
            if any(each.startswith(f"{name}.") for each in inner):
                # Its owner did not come: pickle only wants to find what is in it.
                return _Owner(self, module, name)
            if self.parent is not None:
                return self.parent.find_name(module, name)
        return found

    def find_missing(self, module: CallModule, name: str) -> Any:
        """Return what ``module`` lacks, from what came beside it or from its source."""
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

    # --- What pickles call while they load ---

    def make_module(self, name: str, names: dict[str, Any]) -> CallModule:
        """Return the module ``name``, which what follows in the pickle fills."""
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
        """Give a module its names, unless it is one of the function's, which has them."""
        if vars(module)[MODULES] is self:
            rebuild.set_module(module, state)
            if self.modules.get(module.__name__) is module:
                self._whole.add(module.__name__)

    def set_class(self, cls: type, state: Any) -> None:
        """Give a class its attributes, and remember it by its name."""
        rebuild.set_class(cls, state)
        if "<locals>" not in cls.__qualname__:
            self.names[cls.__module__, cls.__qualname__] = cls

    def named_class(
        self, module: str, file: str, name: str, tracker: str, maker: Any, *args: Any
    ) -> type:
        """Return a class that another task returned: that of this call, if it has one."""
        if cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker) is None:
            try:
                owner: Any = self.load(module)
                for part in name.split("."):
                    owner = getattr(owner, part)
            except Exception:  # the source of the module may run
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
        """Return a function; for an argument, that of the call if it is the very same one."""
        names.setdefault(MODULES, self)  # a namespace that is no module's
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
        """Add a module that the sender has not imported: its source runs when it is imported."""
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
        """Do what an ``import`` does; None if the module is not one of the call's."""
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
        """Return the module ``name``, ready for use, with the packages around it."""
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
        """Make ``from module import name`` find a submodule, or say why a name is missing."""
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
        """Run the source of ``module`` if it is needed for what the module lacks."""
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
        """Run the source of a module that was not imported where the call was sent."""
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
        """Run the source of a module for the names that it lacks; those that it has stay."""
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
        """Return the source of ``module`` as it was sent, else what is in its file."""
        file = vars(module).get("__file__")
        text = self._texts.get(module.__name__)
        if text is None and isinstance(file, str):
            text = self._sources.get(file) or read_text(file)
        return text

    def _is_whole(self, name: str) -> bool:
        return name in self._whole or name in self._texts

    def is_waiting(self, name: str) -> bool:
        """Say whether the source of module ``name`` has still to be run."""
        if name in self._texts:
            return name not in self._ready
        return self.parent is not None and name not in self.modules and self.parent.is_waiting(name)


class _Owner:
    """Stands for a class that did not come, around a class of it that did."""

    def __init__(self, modules: ModuleSet, module: str, name: str) -> None:
        self._place = modules, module, name

    def __getattr__(self, name: str) -> Any:
        modules, module, owner = self._place
        found = modules.find_name(module, f"{owner}.{name}")
        if found is _MISSING:
            raise AttributeError(f"{module}.{owner}.{name} was not sent with the call")
        return found
