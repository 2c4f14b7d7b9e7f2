"""Signatures that list the keyword arguments of ``**keywords``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def lists(*defaults: Mapping[str, Any], described_by: type | None = None) -> Callable[[F], F]:
    """Decorate a method that takes ``**keywords`` so that its signature lists them.

    `inspect.signature`, Shift-Tab and Tab in Jupyter then show them, each with its default. The
    docstring of the class ``described_by`` is appended to that of the method.
    """

    def decorate(method: F) -> F:
        signature = inspect.signature(method)
        own = [each for each in signature.parameters.values() if each.kind != each.VAR_KEYWORD]
        listed = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for each in defaults
            for name, default in each.items()
        ]
        method.__signature__ = signature.replace(parameters=[*own, *listed])  # type: ignore[attr-defined]
        if described_by is not None and method.__doc__ and described_by.__doc__:
            parts = map(inspect.cleandoc, (method.__doc__, described_by.__doc__))
            method.__doc__ = "\n\n".join(parts)
        return method

    return decorate
