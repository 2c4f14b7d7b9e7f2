"""Tools to test code that uses nbqueue: eager tasks, draining, pytest fixtures.

`eager` and `eager_client` need neither Redis nor a worker; `drain` runs the tasks of a store in
this process. The fixtures are in `nbqueue.testing.plugin`. Importing this loads next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue.lazy_names import lazy_names

_HOMES = {
    "EagerClient": "nbqueue.testing.eager_mode",
    "drain": "nbqueue.testing.draining",
    "eager": "nbqueue.testing.eager_mode",
    "eager_client": "nbqueue.testing.eager_mode",
}

__all__ = ["EagerClient", "drain", "eager", "eager_client"]


__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from nbqueue.testing.draining import drain
    from nbqueue.testing.eager_mode import EagerClient, eager, eager_client
