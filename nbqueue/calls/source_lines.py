"""Source text that travels with code, so that tracebacks on a worker show the user's lines."""

from __future__ import annotations

import functools
import linecache
import os
from collections.abc import Iterable

from nbqueue.calls.pickling.local_modules import is_installed_path

_MAX_TEXT = 200_000
_MAX_REGISTERED = 200

# Any code without a file has these names, such as the methods of a data class. Python 3.13 keeps
# the text of ``python -c`` under the first of them.
_SHARED_NAMES = frozenset({"<string>", "<stdin>"})

# Files that were put into linecache here, oldest first: an executor that lives for weeks sees
# the cells of many kernels.
_registered: dict[str, None] = {}


def collect(files: Iterable[str]) -> dict[str, str]:
    """Return the source of each of the user's own ``files``, as far as it can be found.

    A text beyond 200,000 characters is cut at the end of a line.
    """
    found: dict[str, str] = {}
    for file in files:
        if file in _SHARED_NAMES or _is_installed(file):
            continue
        # A helper module may have been edited since linecache read it.
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
        # Without a time of modification, linecache never looks for the file.
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
