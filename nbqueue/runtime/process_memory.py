"""Reuse the memory of large values, and return it to the system later.

By default the C library returns a freed value of megabytes to the system at once, and each page of
the next one costs a page fault, about a millisecond per megabyte. Only for glibc; with other
libraries nothing changes.
"""

from __future__ import annotations

import time
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_MOST_KEPT: Final = 64 << 20
_MOST_REUSED: Final = 32 << 20
"""The largest value whose memory can be reused: glibc's maximum."""

_library: Any = None
_last_large = 0.0


def note_large() -> None:
    """Record the use of a large value, to keep freed memory for a while."""
    global _last_large
    if not _last_large:
        _set_option(_TRIM_THRESHOLD, _MOST_KEPT)
        _set_option(_MMAP_THRESHOLD, _MOST_REUSED)
    _last_large = time.monotonic()


def _set_option(option: int, value: int) -> None:
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)


def is_over(seconds: float) -> bool:
    """Return whether memory is kept and the last large value is old.

    Old: ``seconds`` or more.
    """
    return _last_large > 0 and time.monotonic() - _last_large >= seconds


def give_back() -> None:
    """Return all free memory to the system."""
    global _last_large
    if _last_large:
        _last_large = 0.0
        trim = getattr(_c_library(), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _c_library() -> Any:
    global _library
    if _library is None:
        import ctypes

        _library = ctypes.CDLL(None)
    return _library
