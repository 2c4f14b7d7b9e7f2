"""Load a call together with the local modules that were sent with it."""

from __future__ import annotations

import io
import pickle
from typing import Any

from nbqueue.calls.modules.active_modules import use_import_hook
from nbqueue.calls.modules.module_set import ModuleSet
from nbqueue.runtime.buffers import LARGE

_REBUILD = "nbqueue.calls.rebuild"
_CLOUDPICKLE = "cloudpickle.cloudpickle"
_GLOBAL = pickle.STACK_GLOBAL[0]  # the opcode that refers to an object by name
_LEAST_CODE = 60  # bytes; a pickle that contains code is longer than this
# Functions that pickles call, and the `ModuleSet` method that is called instead.
_REPLACED: dict[tuple[str, str], str] = {
    (_CLOUDPICKLE, "_make_function"): "make_function",
    (_CLOUDPICKLE, "_function_setstate"): "set_function",
    (_REBUILD, "make_module"): "make_module",
    (_REBUILD, "set_module"): "set_module",
    (_REBUILD, "set_class"): "set_class",
    (_REBUILD, "named_class"): "named_class",
    (_REBUILD, "add_source"): "add_source",
}


def has_code(data: bytes | memoryview) -> bool:
    """Return whether a pickle may hold code by value."""
    if len(data) < _LEAST_CODE:
        return False
    raw = bytes(data)
    if _GLOBAL not in raw:  # a much faster check
        return False
    return raw.find(b"cloudpickle") >= 0 or raw.find(b"nbqueue.calls") >= 0


def load_into(data: bytes | memoryview, into: ModuleSet) -> Any:
    """Load a pickle, and add the modules that it contains to ``into``.

    The modules that its code imports when it runs follow in separate pickles, which a plain
    ``pickle.loads`` ignores.
    """
    file: Any = io.BytesIO(data) if len(data) < LARGE else _Reader(data)
    unpickler = _Unpickler(file, into)
    loaded = unpickler.load()
    while file.tell() < len(data):
        unpickler.load()
    if len(into.modules) > 1 or into.parent is not None:
        use_import_hook()
    return loaded


class _Unpickler(pickle.Unpickler):
    """Loads functions, classes and modules by value into a `ModuleSet`."""

    def __init__(self, file: Any, into: ModuleSet) -> None:
        super().__init__(file)
        self._into = into

    def find_class(self, module: str, name: str) -> Any:
        method = _REPLACED.get((module, name))
        return super().find_class(module, name) if method is None else getattr(self._into, method)


class _Reader:
    """A file object over bytes in memory that copies only what is read."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._position + size
        part = self._data[self._position : end]
        self._position += len(part)
        return bytes(part)

    def readline(self) -> bytes:
        rest = bytes(self._data[self._position : self._position + 4096])
        return self.read(rest.index(b"\n") + 1)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        part = self._data[self._position : self._position + len(view)]
        view[: len(part)] = part
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position
