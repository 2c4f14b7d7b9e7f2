"""Requirements of tasks on the worker that runs them, such as a Python version.

A requirement is text: terms such as ``python=3.11`` joined by ``&``, all of which a worker must
offer. It is derived from the signed head of a task, so that it cannot be forged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache

NEED = "need:"
"""Prefix of the field `nbqueue.wire.fields.PARKED` of a task parked for a requirement."""

THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

_TEXTS = {"python": "Python"}


def python_requirement(version: str) -> str:
    """Return the requirement of code that only this minor Python version can load."""
    return f"python={version}"


@lru_cache(maxsize=64)
def version_requirement(version: tuple[int, int]) -> str:
    """Return `python_requirement` of a major and a minor version."""
    return python_requirement(".".join(map(str, version)))


def offered_by(python: str) -> frozenset[str]:
    """Return the terms that a worker with this version of Python offers."""
    return frozenset({python_requirement(python)})


def is_met(requirement: str, offered: Iterable[str]) -> bool:
    """Return whether a worker with these terms meets a requirement.

    A malformed requirement is met by no worker.
    """
    return set(requirement.split("&")) <= set(offered)


def needed_worker(requirement: str) -> str:
    """Describe the required worker, such as ``a worker with Python 3.11``."""
    words = []
    for term in requirement.split("&"):
        name, _, value = term.partition("=")
        words.append(f"{_TEXTS.get(name, name)} {value}".strip())
    text = " and ".join(words)
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"a worker with {shown[:200]}"
