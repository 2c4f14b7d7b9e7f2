from __future__ import annotations

from typing import Any

from nbqueue.moved_modules import attribute_of


def __getattr__(name: str) -> Any:
    return attribute_of(__name__, name)
