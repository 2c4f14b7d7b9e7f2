"""``nbqueue latency`` answers with the age of the oldest pending task, or with 503."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

import nbqueue
from nbqueue.cli.latency_command import make_server, measured
from nbqueue.errors import StoreUnreachable


def test_the_latency_of_queues_is_served_and_a_lost_store_is_an_error(lab: Any) -> None:
    with nbqueue.connect(lab.url, key="5b" * 32) as client:
        queues = ["default", "paused", "new"]
        faults: list[Exception] = []

        def measure() -> dict[str, dict[str, float]]:
            if faults:
                raise faults.pop()
            return measured(client.inspector, queues)

        server = make_server("127.0.0.1", 0, measure)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask() -> Any:
            url = f"http://127.0.0.1:{server.server_port}/"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)

        try:
            zeros = {"latency": 0.0, "pending": 0, "active": 0}
            assert ask() == dict.fromkeys(queues, zeros)
            lab.submit(abs, -1)
            lab.submit(abs, -1, queue="paused")
            client.inspector.pause("paused")
            lab.wait_until(lambda: ask()["default"]["latency"] > 0.05)
            assert ask()["default"]["pending"] == 1
            assert ask()["paused"] == zeros
            faults.append(StoreUnreachable("the store is away"))
            with pytest.raises(urllib.error.HTTPError) as caught:
                ask()
            with caught.value as answer:
                assert answer.code == 503
                assert json.load(answer) == {"error": "the store is away"}
            assert ask()["default"]["pending"] == 1
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
