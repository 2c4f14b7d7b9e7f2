"""`CallShapes`: whether a function takes the arguments of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Final

from nbqueue.client.submitting.option_keywords import OPTION_DEFAULTS
from nbqueue.names import did_you_mean

_MOST_SHAPES: Final = 256


class CallShapes:
    """Checks the arguments of calls of one function before they are sent.

    An installed function is not checked, as the worker may have another version of it, nor is any
    other callable that is no plain function. A call of a shape that was seen before costs a look
    in a set.
    """

    def __init__(self, fn: Callable[..., Any], *, by_reference: bool) -> None:
        is_plain = type(fn) is FunctionType and not hasattr(fn, "__signature__")
        self._fn = fn if is_plain and not by_reference else None
        self._signature: inspect.Signature | None = None
        self._taken: set[tuple[object, ...]] = set()

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `TypeError`, as the call would on the worker, if the function does not take them.

        The error names the nearest parameter, or the way to pass an option of the task.
        """
        shape = (len(args), *kwargs)
        if shape in self._taken or self._fn is None:
            return
        if self._signature is None:
            self._signature = inspect.signature(self._fn, follow_wrapped=False)
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(self._explain(error, kwargs)) from None
        if len(self._taken) >= _MOST_SHAPES:
            self._taken.clear()
        self._taken.add(shape)

    def _explain(self, error: TypeError, kwargs: Mapping[str, Any]) -> str:
        assert self._signature is not None
        names = self._signature.parameters
        said = f"{getattr(self._fn, '__name__', 'the function')}{self._signature_text()}: {error}"
        unknown = [name for name in kwargs if name not in names]
        if unknown and (question := did_you_mean(unknown[0], names)):
            return f"{said}: {question}"
        if unknown and unknown[0] in OPTION_DEFAULTS:
            return f"{said}; options of the task go before: q.options({unknown[0]}=…).submit(…)"
        return said

    def _signature_text(self) -> str:
        # The names alone: the texts of defaults and annotations may be long, or code of the user.
        assert self._signature is not None
        stars: dict[Any, str] = {
            inspect.Parameter.VAR_POSITIONAL: "*",
            inspect.Parameter.VAR_KEYWORD: "**",
        }
        parts = [
            f"{stars.get(each.kind, '')}{each.name}"
            f"{'=…' if each.default is not inspect.Parameter.empty else ''}"
            for each in self._signature.parameters.values()
        ]
        return f"({', '.join(parts)})"
