"""Send source text with code, for tracebacks on a worker."""

from __future__ import annotations

import functools
import linecache
import os
from collections.abc import Iterable

from nbqueue.calls.pickling.local_modules import is_installed_path

_MAX_TEXT = 200_000
_MAX_REGISTERED = 200

# Names of code without a file, such as the methods of a dataclass. Python 3.13 keeps the text of
# ``python -c`` under the first of them.
_SHARED_NAMES = frozenset({"<string>", "<stdin>"})

# Files added to linecache here, oldest first. They are bounded: an executor that runs for weeks
# sees the cells of many kernels.
_registered: dict[str, None] = {}


def collect(files: Iterable[str]) -> dict[str, str]:
    """Return the source of each of the user's ``files`` that can be found.

    A text beyond 200,000 characters is cut at the end of a line.
    """
    found: dict[str, str] = {}
    for file in files:
        if file in _SHARED_NAMES or _is_installed(file):
            continue
        # A local module may have been edited since linecache read it.
        linecache.checkcache(file)
        text = "".join(linecache.getlines(file))
        if len(text) > _MAX_TEXT:
            text = text[: text.rfind("\n", 0, _MAX_TEXT) + 1]
        if text:
            found[file] = text
    return found


def register(sources: dict[str, str]) -> None:
    """Let tracebacks show ``sources``, except for files that exist on this machine."""
    for file, text in sources.items():
        if os.path.exists(file):
            continue
        # Without a modification time, linecache never looks for the file.
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        _registered.pop(file, None)
        _registered[file] = None
    while len(_registered) > _MAX_REGISTERED:
        oldest = next(iter(_registered))
        del _registered[oldest]
        linecache.cache.pop(oldest, None)


@functools.lru_cache(maxsize=4096)
def _is_installed(file: str) -> bool:
    return is_installed_path(file)
