"""A task that is not in the store yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nbqueue.runtime.buffers import LARGE, Body


class NewTask(NamedTuple):
    """The id and the encoded `TaskMessage` of a task to enqueue.

    Where the arguments are stored apart from the message, ``detached`` holds their pieces.
    """

    task_id: str
    msg: Body
    detached: Sequence[Body] = ()

    @property
    def is_staged(self) -> bool:
        """True if the message is too large to be an argument of a script."""
        return bool(self.detached) or len(self.msg) > LARGE
