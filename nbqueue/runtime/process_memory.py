"""Memory of a worker's processes: used again while large values pass, given back afterwards.

By itself the C library gives a freed value of megabytes back to the system at once, and each page
of the next one costs a fault, about a millisecond a megabyte. Where it is not glibc, all stays as
it is.
"""

from __future__ import annotations

import time
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_MOST_KEPT: Final = 64 << 20
_MOST_REUSED: Final = 32 << 20
"""The largest value whose memory can be used again: glibc allows no more."""

_library: Any = None
_last_large = 0.0


def note_large() -> None:
    """A large value passes: keep what is freed, for a while."""
    global _last_large
    if not _last_large:
        _tell(_TRIM_THRESHOLD, _MOST_KEPT)
        _tell(_MMAP_THRESHOLD, _MOST_REUSED)
    _last_large = time.monotonic()


def _tell(what: int, value: int) -> None:
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is not None:
        mallopt(what, value)


def is_over(seconds: float) -> bool:
    """Whether large values passed since memory was given back, and none for so long."""
    return _last_large > 0 and time.monotonic() - _last_large >= seconds


def give_back() -> None:
    """Give all that is free back to the system."""
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
