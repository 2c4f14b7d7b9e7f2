"""Buffer a task's output until it is sent, within bounds.

The first 100 kB and the last 900 kB of an attempt's text are kept; text in between is dropped here
if it is written faster than it is sent. Accepted rich displays are never dropped.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from nbqueue.executor import pipe
from nbqueue.executor.pipe import Output

HEAD: Final = 100_000
TAIL: Final = 900_000
MOST_AT_ONCE: Final = 100_000
"""Maximum text per frame, in bytes; ten frames are sent per second."""

MOST_DISPLAYS: Final = 50
LARGEST_DISPLAY: Final = 5_000_000
MOST_DISPLAYED: Final = 20_000_000
"""Maximum number, single size and total size (bytes) of an attempt's displays."""

_PIECE = 65_536
_MOST_PIECES = 10_000
_MOST_UNSORTED = 8_000_000
_OVERHEAD = 64
_TEXT = frozenset({pipe.STDOUT, pipe.STDERR})


class Outbox:
    """Buffers the output of one attempt.

    All threads of the task may call `write`, and an exception may interrupt it at any point, so it
    takes no lock. Only one thread at a time may call `take`.
    """

    def __init__(self) -> None:
        self._unsorted: deque[tuple[int, bytes]] = deque()
        self._unsorted_size = 0
        self._refused_bytes = self._refused_lines = 0
        self._pieces: deque[Output] = deque()
        self._size = 0
        self._bytes = self._lines = 0
        self._displays = self._displayed = 0

    @property
    def is_full(self) -> bool:
        """True if `sort` must be called before more text is accepted."""
        return self._unsorted_size > _MOST_UNSORTED

    def write(self, kind: int, data: bytes) -> None:
        if self._unsorted_size > _MOST_UNSORTED and kind in _TEXT:
            # The sending thread is behind; a task that prints must not fill the memory.
            self._refused_bytes += len(data)
            self._refused_lines += data.count(b"\n")
            return
        self._unsorted_size += len(data) + _OVERHEAD
        self._unsorted.append((kind, data))

    def admit_display(self, size: int) -> str:
        """Count a display of ``size`` bytes.

        Returns the reason why it is refused, if it is.
        """
        if size > LARGEST_DISPLAY:
            return f"it has {size:,} bytes, and {LARGEST_DISPLAY:,} can be kept"
        if self._displays >= MOST_DISPLAYS:
            return f"{MOST_DISPLAYS} of this attempt are kept"
        if self._displayed + size > MOST_DISPLAYED:
            return f"{MOST_DISPLAYED:,} bytes of them are kept of an attempt"
        self._displays += 1
        self._displayed += size
        return ""

    @property
    def has_more(self) -> bool:
        return bool(self._pieces or self._unsorted)

    def take(self, most: int | None = None) -> list[Output]:
        """Remove and return about ``most`` bytes of output, or all of it."""
        self.sort()
        taken: list[Output] = []
        size = 0
        while self._pieces and (most is None or size < most):
            piece = self._pieces.popleft()
            taken.append(piece)
            if piece.kind in _TEXT:
                size += len(piece.data)
                self._size -= len(piece.data)
        return taken

    def sort(self) -> None:
        """Join the written pieces and drop excess text.

        Only for the thread that takes.
        """
        kind, size = 0, 0
        parts: list[bytes] = []
        for _ in range(len(self._unsorted)):
            next_kind, data = self._unsorted.popleft()
            if next_kind != kind or next_kind not in _TEXT or size > _PIECE:
                self._add(kind, b"".join(parts))
                kind, parts, size = next_kind, [], 0
            parts.append(data)
            size += len(data)
        self._unsorted_size = 0
        if kind:
            self._add(kind, b"".join(parts))
        if self._refused_bytes:
            self._bytes += self._refused_bytes
            self._lines += self._refused_lines
            self._refused_bytes = self._refused_lines = 0

    def _add(self, kind: int, data: bytes) -> None:
        if kind not in _TEXT:
            if kind:
                self._pieces.append(Output(kind, self._bytes, self._lines, data))
            return
        at = 0
        while at < len(data):
            room = min(_PIECE, HEAD - self._bytes) if self._bytes < HEAD else _PIECE
            end = _whole(data, at, at + room)
            piece = data[at:end]
            self._pieces.append(Output(kind, self._bytes, self._lines, piece))
            self._bytes += len(piece)
            self._lines += piece.count(b"\n")
            self._size += len(piece)
            at = end
            self._trim()

    def _trim(self) -> None:
        first = self._pieces[0].before
        kept = TAIL + max(0, HEAD - first)
        while self._size > kept or len(self._pieces) > _MOST_PIECES:
            for position, piece in enumerate(islice(self._pieces, len(self._pieces) - 1)):
                if piece.kind in _TEXT and piece.before >= HEAD:
                    self._size -= len(piece.data)
                    del self._pieces[position]
                    break
            else:
                return


def _whole(data: bytes, start: int, end: int) -> int:
    """Return where to cut ``data``, at ``end`` or before, between two characters."""
    if end >= len(data):
        return len(data)
    cut = end
    while cut > start and cut > end - 4 and data[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut if cut > start else end
