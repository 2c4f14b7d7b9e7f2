"""Patch a module when the task imports it, and not before.

An executor does not import tqdm, IPython or matplotlib; a task may.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    # importlib.abc is slow to import, and nothing checks these base classes.
    Loader = MetaPathFinder = object

Action = Callable[[ModuleType], None]


class ImportHooks(MetaPathFinder):
    """Calls a module's patch after its code has run, and prints failures."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions
        self._looking: set[str] = set()

    def install(self) -> None:
        """Install this finder first, and patch modules that are already imported."""
        sys.meta_path.insert(0, self)
        for name in self._actions:
            module = sys.modules.get(name)
            if module is not None:
                self.act(name, module)

    def act(self, name: str, module: ModuleType) -> None:
        try:
            self._actions[name](module)
        except Exception:
            # The module's version may be unknown: the task continues without the patch.
            traceback.print_exc()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._actions or fullname in self._looking:
            return None
        self._looking.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self._looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader, hooks: ImportHooks) -> None:
        self._loader = loader
        self._hooks = hooks

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
            self._hooks.act(spec.name, module)

    def __getattr__(self, name: str) -> Any:
        # Readers of sources and data use further attributes of the loader.
        return getattr(self._loader, name)
