from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from nbqueue.moved_modules import attribute_of

    return attribute_of(__name__, name)
