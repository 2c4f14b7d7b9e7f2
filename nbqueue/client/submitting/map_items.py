"""The calls of a map, taken from its iterables in slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbqueue.broker.new_tasks import EnqueueRequest, LazyTasks
from nbqueue.calls.functions import dump_call
from nbqueue.calls.pickling.captured_values import warn_of_shared
from nbqueue.client.submitting.prepared_call import PreparedCall
from nbqueue.client.submitting.prepared_task import Arguments
from nbqueue.runtime.buffers import Body
from nbqueue.wire.task_groups.member_runs import MOST_AT_ONCE

_SLICE = MOST_AT_ONCE
_SLICE_BYTES = 8_000_000


class MapItems:
    """Makes requests of one call with each set of arguments."""

    def __init__(self, call: PreparedCall, iterator: Iterator[Sequence[Any]]) -> None:
        self._call = call
        self._iterator = iterator
        self._count = 0
        self._generators: dict[int, object] = {}
        self._has_warned = False
        self.is_exhausted = False
        """True if the last request was the last one. It may be that and not be known yet."""

    def next_request(self) -> EnqueueRequest | None:
        """Return the request for the next slice of tasks; None if there are no more."""
        call = self._call
        name, imports, size = call.code.name, call.code.imports, 0
        dumped: list[Body] = []
        arguments: list[Arguments] = []
        generators: list[object] = []
        for item in self._iterator:
            body = dump_call(
                tuple(item), {}, callee=name, fn=call.fn, generators=generators, imports=imports
            )
            if generators:
                self._note_generators(call.fn, item, generators)
            dumped.append(body)
            arguments.append((item, {}))
            size += len(body)
            if len(dumped) >= _SLICE or size >= _SLICE_BYTES:
                break
        else:
            self.is_exhausted = True
        if not dumped:
            return None
        ids = call.session.ids.make_many(len(dumped))
        tasks = LazyTasks(ids, dumped, call.task, self._count)
        self._count += len(dumped)
        return call.request(tasks, arguments)

    def _note_generators(
        self, fn: Callable[..., Any], item: Sequence[Any], generators: list[object]
    ) -> None:
        """Warn if a random generator in the arguments of this task was in those of another.

        Takes the members of ``generators``.
        """
        for generator in generators:
            if id(generator) in self._generators and not self._has_warned:
                self._has_warned = True
                warn_of_shared(fn, tuple(item), generator)
        # They are kept, as the next object could have the id of one that is gone.
        self._generators.update((id(each), each) for each in generators)
        generators.clear()
