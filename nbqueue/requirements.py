"""What a task needs of the worker that runs it, and what workers offer.

A requirement is text: terms such as ``python=3.11`` with an ``&`` between, all of which a worker
must offer. It is read from the signed head of a task, so that nobody else decides where it may run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache

NEED = "need:"
"""What begins the field `nbqueue.wire.fields.PARKED` of a task that is parked for a requirement."""

THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_TEXTS = {"python": "Python"}


def python_requirement(version: str) -> str:
    """The requirement of code that only this minor version of Python can load."""
    return f"python={version}"


@lru_cache(maxsize=64)
def version_requirement(version: tuple[int, int]) -> str:
    """Return `python_requirement` of a major and a minor version."""
    return python_requirement(".".join(map(str, version)))


def offered_by(python: str) -> frozenset[str]:
    """What a worker offers that runs this version of Python."""
    return frozenset({python_requirement(python)})


def is_met(requirement: str, offered: Iterable[str]) -> bool:
    """Whether a worker that offers this meets a requirement. What makes no sense nobody meets."""
    return set(requirement.split("&")) <= set(offered)


def needed_worker(requirement: str) -> str:
    """The worker that is needed, in words: ``a worker with Python 3.11``."""
    words = []
    for term in requirement.split("&"):
        name, _, value = term.partition("=")
        words.append(f"{_TEXTS.get(name, name)} {value}".strip())
    text = " and ".join(words)
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"a worker with {shown[:200]}"
