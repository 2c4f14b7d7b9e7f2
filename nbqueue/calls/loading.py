"""Loading the parts of a call, together with the local modules that came with them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from nbqueue.calls.active import use_import_hook
from nbqueue.calls.modules import ModuleSet

_REBUILD = "nbqueue.calls.rebuild"
_CLOUDPICKLE = "cloudpickle.cloudpickle"
_SMALL = 65_536


def has_code(data: bytes | memoryview) -> bool:
    """Say whether a pickle may hold code by value. It is not known of large ones."""
    if len(data) > _SMALL:
        return True
    raw = bytes(data)
    return b"nbqueue.calls" in raw or b"cloudpickle" in raw


def load_into(data: bytes | memoryview, into: ModuleSet) -> Any:
    """Return the object of a pickle; the modules that it brings along are added to ``into``.

    What the code imports when it runs follows the object, in pickles of their own, which a plain
    ``pickle.loads`` leaves unread.
    """
    unpickler = _Unpickler(data, into)
    loaded = unpickler.load()
    while not unpickler.at_end():
        unpickler.load()
    if len(into.modules) > 1 or into.parent is not None:
        use_import_hook()
    return loaded


class _Unpickler(pickle.Unpickler):
    """Makes functions, classes and modules by value part of a `ModuleSet`."""

    def __init__(self, data: bytes | memoryview, into: ModuleSet) -> None:
        self._reader = _Reader(data)
        super().__init__(self._reader)
        self._own: dict[tuple[str, str], Callable[..., Any]] = {
            (_CLOUDPICKLE, "_make_function"): into.make_function,
            (_CLOUDPICKLE, "_function_setstate"): into.set_function,
            (_REBUILD, "make_module"): into.make_module,
            (_REBUILD, "set_module"): into.set_module,
            (_REBUILD, "set_class"): into.set_class,
            (_REBUILD, "named_class"): into.named_class,
            (_REBUILD, "add_source"): into.add_source,
        }

    def find_class(self, module: str, name: str) -> Any:
        return self._own.get((module, name)) or super().find_class(module, name)

    def at_end(self) -> bool:
        return self._reader.at_end()


class _Reader:
    """A file over bytes in memory that copies no more than what is read."""

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

    def at_end(self) -> bool:
        return self._position >= len(self._data)
