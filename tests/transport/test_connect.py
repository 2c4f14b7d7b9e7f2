"""Properties of opened connections: limited waits, quiet closing."""

from __future__ import annotations

import gc
import warnings

from nbqueue.runtime.busy_poll import limit_waits
from nbqueue.store.connection import Store


def test_waits_on_plain_connections_can_be_limited_by_the_system(store: Store) -> None:
    with store.open_connection() as raw:
        assert limit_waits(raw.socket, 1.0)
        assert raw.socket.gettimeout() is None


def test_a_dropped_connection_closes_without_a_warning(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = store.open_connection()
        number = raw.socket.fileno()
        del raw
        gc.collect()
        with store.open_connection() as again:
            assert again.socket.fileno() == number
