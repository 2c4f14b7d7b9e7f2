"""`Parameters`: the parameters of a function, and which argument of a call belongs to which."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, NamedTuple


class Parameters(NamedTuple):
    """The names of a function's parameters, and the defaults that are known."""

    positional: tuple[str, ...] = ()
    """Those that take positional arguments, in order."""
    only_positional: int = 0
    """How many of them cannot be passed by name."""
    only_keyword: tuple[str, ...] = ()
    var_positional: str | None = None
    """The name of ``*args``."""
    var_keyword: str | None = None
    """The name of ``**kwargs``."""
    defaults: Mapping[str, Any] = {}

    @classmethod
    def of(cls, fn: Any) -> Parameters:
        """Return the parameters of a function. Raises as `inspect.signature` does."""
        names: dict[Any, list[str]] = {}
        defaults: dict[str, Any] = {}
        for each in inspect.signature(fn).parameters.values():
            names.setdefault(each.kind, []).append(each.name)
            if each.default is not inspect.Parameter.empty:
                defaults[each.name] = each.default
        kind = inspect.Parameter
        first = names.get(kind.POSITIONAL_ONLY, [])
        return cls(
            (*first, *names.get(kind.POSITIONAL_OR_KEYWORD, [])),
            len(first),
            tuple(names.get(kind.KEYWORD_ONLY, [])),
            next(iter(names.get(kind.VAR_POSITIONAL, ())), None),
            next(iter(names.get(kind.VAR_KEYWORD, ())), None),
            defaults,
        )

    def bind(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fill: bool = True
    ) -> dict[str, Any]:
        """Return the arguments of a call by name, in the order of the parameters.

        With ``fill``, parameters without an argument have their default. ``*args`` is one tuple
        under its name; arguments for ``**kwargs`` are under their own names. A call that does not
        fit is no error: positional arguments without a parameter are named by their position,
        ``"0"`` for the first one.
        """
        positional, count = self.positional, len(args)
        named = dict(zip(positional, args, strict=False))
        if count > len(positional):
            if self.var_positional is not None:
                named[self.var_positional] = args[len(positional) :]
            else:
                named.update((str(i), args[i]) for i in range(len(positional), count))
        if kwargs or count < len(positional) or self.only_keyword:
            self._add_keywords(named, kwargs, fill)
        if fill and self.var_positional is not None:
            named.setdefault(self.var_positional, ())
        return named

    def _add_keywords(self, named: dict[str, Any], kwargs: Mapping[str, Any], fill: bool) -> None:
        left = dict(kwargs)
        for index, name in enumerate((*self.positional, *self.only_keyword)):
            if name in named:
                continue
            if name in left and not index < self.only_positional:
                named[name] = left.pop(name)
            elif fill and name in self.defaults:
                named[name] = self.defaults[name]
        for name, value in left.items():
            # A key of **kwargs may be the name of a positional-only parameter, or of *args.
            is_taken = name in named or name == self.var_positional
            named[f"{self.var_keyword or 'kwargs'}.{name}" if is_taken else name] = value


UNKNOWN: Final = Parameters()
"""The parameters of a function that cannot be read: its arguments are named by position."""
