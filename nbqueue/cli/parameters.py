"""Types of command line parameters, such as sizes and durations, and the option ``--url``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from nbqueue.checks import LARGEST_COUNT
from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean
from nbqueue.printable import shown
from nbqueue.sizes import parse_size
from nbqueue.wire.keys import check_queue_name

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:  # no generic before click 8.2
    _Type = click.ParamType


class _Queue(_Type):
    """A queue, ``name=weight`` or ``name``, as its name and a weight of 1 or more."""

    name = "queue"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        name, equals, weight = str(value).rpartition("=")
        if not equals:
            name, weight = weight, "1"
        is_number = weight.isascii() and weight.isdigit() and len(weight) < 10
        if not is_number or int(weight) < 1:
            self.fail(
                f"{shown(value)}: a weight is a whole number from 1 on, as in critical=6", param
            )
        try:
            return check_queue_name(name), int(weight)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Choice(click.Choice):  # type: ignore[type-arg]  # no generic before click 8.2
    """One of a few words; an error names the one that was meant, by ``question``."""

    def __init__(
        self,
        choices: Sequence[str],
        *,
        case_sensitive: bool = True,
        question: Callable[[object, Sequence[str]], str] = did_you_mean,
    ) -> None:
        super().__init__(choices, case_sensitive)
        self._question = question

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            question = self._question(value, self.choices)
            if not question:
                raise
            self.fail(f"{error.message} {question[:1].upper()}{question[1:]}", param, ctx)


class _Size(_Type):
    """A number of bytes: ``512MB`` (decimal), ``512MiB`` (binary) or ``536870912``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(str(value), param.name or "size" if param else "size")
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _Span(_Type):
    """A duration in any of nbqueue's forms, as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return parse_duration(value, param.name or "duration" if param else "duration")
        except UsageError as error:
            self.fail(str(error), param, ctx)


COUNT: Final = click.IntRange(1, LARGEST_COUNT)
QUEUE: Final = _Queue()
SIZE: Final = _Size()
SPAN: Final = _Span()

url_option = click.option(
    "--url",
    envvar="NBQUEUE_URL",
    metavar="URL",
    help="The store. [default: NBQUEUE_URL, else the embedded store of this project]",
)
