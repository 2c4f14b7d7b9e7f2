"""`ResultPreview`: what views show of a result that they do not load."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NamedTuple

MOST_BYTES: Final = 20_000
"""Maximum size of a packed preview in bytes."""

_MOST_SUMMARY = 200
_MOST_TEXT = 4_000
_LEAST_TEXT = 1_000
_PNG_BEGIN: Final = b"\x89PNG\r\n\x1a\n"


class ResultPreview(NamedTuple):
    """A small picture of a result: text, and HTML or a PNG image if it has one.

    An executor makes it of a result that is no simple value, and its supervisor signs it. The HTML
    is a stranger's: show it only in a sandbox.
    """

    summary: str
    """One line, such as ``DataFrame 1,000 rows × 3 columns``."""
    text: str = ""
    """Several lines, or "" if the summary says everything."""
    html: str = ""
    png: bytes = b""

    def pack(self) -> bytes:
        """Encode it as JSON of at most `MOST_BYTES`, without what does not fit."""
        fitting = self._replace(summary=self.summary[:_MOST_SUMMARY], text=self.text[:_MOST_TEXT])
        for shorter in (
            fitting,
            fitting._replace(text=fitting.text[:_LEAST_TEXT]),
            fitting._replace(html="", png=b""),
        ):
            packed = shorter._packed()
            if len(packed) <= MOST_BYTES:
                return packed
        return fitting._replace(html="", png=b"", text="")._packed()

    def _packed(self) -> bytes:
        parts: dict[str, str] = {"summary": self.summary}
        if self.text:
            parts["text"] = self.text
        if self.html:
            parts["html"] = self.html
        if self.png:
            parts["png"] = base64.b64encode(self.png).decode()
        text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")

    @classmethod
    def unpack(cls, packed: bytes) -> ResultPreview:
        """Decode it. Raises `ValueError` for anything that `pack` did not make."""
        if len(packed) > MOST_BYTES:
            raise ValueError(f"a preview has at most {MOST_BYTES:,} bytes, not {len(packed):,}")
        try:
            parts: Any = json.loads(packed)
        except RecursionError:
            raise ValueError("a preview is not nested") from None
        if not isinstance(parts, dict) or not all(isinstance(each, str) for each in parts.values()):
            raise ValueError("a preview is an object of strings")
        try:
            png = base64.b64decode(parts.get("png", ""), validate=True)
        except binascii.Error as error:
            raise ValueError(f"the picture of a preview is not base64: {error}") from None
        if png and not png.startswith(_PNG_BEGIN):
            raise ValueError("the picture of a preview is no PNG")
        return cls(parts.get("summary", ""), parts.get("text", ""), parts.get("html", ""), png)


def preview_owner(task_id: str, queue: str) -> str:
    """Return what the preview of a task's result is signed for, instead of a task id."""
    return f"{task_id}\0{queue}"
