"""The keyword arguments of actions that choose tasks, in a module that loads fast."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypedDict

from nbqueue.durations import Duration


class TaskWhere(TypedDict, total=False):
    """The keyword arguments that choose tasks; see `Inspector`."""

    queue: str | None
    state: str | None
    type: str | None
    error: str | None
    since: Duration | datetime | None
    until: Duration | datetime | None
    group: str | None


WHERE_DEFAULTS: Final[Mapping[str, Any]] = dict.fromkeys(TaskWhere.__annotations__)
