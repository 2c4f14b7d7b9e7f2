"""`CallScreen`: rules out stored calls by their bytes, before they are verified and loaded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from nbqueue.calls.payloads import unverified_call
from nbqueue.client.arguments.function_parameters import Parameters

Needles = tuple[bytes, ...]
"""Byte strings of which the arguments must contain one."""

_EXOTIC: Final = re.compile(rb"[\x82-\x84\x93]")
"""Opcodes of pickles that hold a class or a function: such values may be equal to anything."""

_LONGEST_TEXT: Final = 1_000


class CallScreen:
    """Tells which calls cannot have the wanted arguments, as their bytes lack the values.

    A pickle of plain values contains each value in one of few forms. So most calls of a function
    whose parameters are known need not be loaded to know that they are not wanted. It never rules
    out a call that has the arguments, and loads nothing.
    """

    def __init__(
        self,
        wanted: Mapping[str, Any],
        tests: Mapping[str, Callable[[Any], bool]],
        parameters: Callable[[bytes], Parameters | None],
    ) -> None:
        """``tests``: of equality with each wanted value. ``parameters``: those known, by code."""
        self._needles = {name: needles_of(value) for name, value in wanted.items()}
        self._tests = tests
        self._parameters = parameters
        self._rules: dict[bytes, Sequence[Needles]] = {}
        self.ruled_out: dict[bytes, Parameters] = {}
        """The parameters of functions of which calls were ruled out, by code."""

    def rules_out(self, message: bytes) -> bool:
        """Return whether the call in an encoded message, which is not verified, is not wanted."""
        fingerprint, arguments = unverified_call(message)
        rules = self._rules.get(fingerprint)
        if rules is None:
            rules = self._rules_for(fingerprint)
        for needles in rules:
            for needle in needles:
                if needle in arguments:
                    break
            else:
                return _EXOTIC.search(arguments) is None
        return False

    def _rules_for(self, fingerprint: bytes) -> Sequence[Needles]:
        """Return what calls of a function must contain; nothing if its parameters are not known."""
        known = self._parameters(fingerprint)
        if known is None:
            return ()
        names = {*known.positional, *known.only_keyword}
        rules: list[Needles] = []
        for name, needles in self._needles.items():
            if name in names:
                has_default = name in known.defaults and self._tests[name](known.defaults[name])
                if needles and not has_default:
                    rules.append(needles)
            elif not name.isdecimal() and "." not in name and name != known.var_positional:
                # A keyword for **kwargs, or one too many: its name is in the call.
                rules.append((name.encode("utf-8", "surrogatepass"),))
        self.ruled_out[fingerprint] = known
        self._rules[fingerprint] = rules
        return rules


def needles_of(value: Any) -> Needles:
    """Return the bytes of which pickles with a value equal to this one have one; () if unknown."""
    if value is None:
        return (b"N",)
    if isinstance(value, bool):
        return needles_of(int(value))
    if type(value) is str:
        text = value.encode("utf-8", "surrogatepass")
        return (text,) if len(text) <= _LONGEST_TEXT else ()
    if type(value) is bytes:
        return (value,) if len(value) <= _LONGEST_TEXT else ()
    if type(value) is int:
        return _numbers(value)
    # A class of its own may be equal to other numbers.
    if type(value) is float and value == value:
        return _numbers(int(value)) if value.is_integer() else (_double(value),)
    return ()


def _numbers(value: int) -> Needles:
    """Return the forms of whole numbers, and of fractions and truth values equal to them."""
    found = []
    if value in (0, 1):
        found.append(b"\x88" if value else b"\x89")
    if 0 <= value < 256:
        found.append(b"K" + bytes((value,)))
    elif 0 <= value < 65_536:
        found.append(b"M" + value.to_bytes(2, "little"))
    elif -(2**31) <= value < 2**31:
        found.append(b"J" + value.to_bytes(4, "little", signed=True))
    else:
        # Without the last byte, which is left out of some negative numbers.
        found.append(value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True)[:-1])
    if not value:
        found.append(_double(-0.0))
    with suppress(OverflowError):
        found.append(_double(float(value)))
    return tuple(found)


_double: Final = struct.Struct(">d").pack
