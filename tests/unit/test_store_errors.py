"""Error messages for refusals of the store and for invalid names."""

from __future__ import annotations

import pytest

from nbqueue.errors import UsageError
from nbqueue.options import TaskOptions
from nbqueue.store import server_facts
from nbqueue.store.refusal_errors import refusal_error
from nbqueue.store.url import parse_url
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import check_queue_name


@pytest.mark.parametrize("end", ["", "."])
def test_a_full_store_is_one_sentence_after_another(end: str) -> None:
    error = ReplyError(f"OOM command not allowed when used memory > 'maxmemory'{end}")
    assert "'maxmemory'. Raise maxmemory" in str(refusal_error(error, parse_url("redis://h")))


@pytest.mark.parametrize(
    ("url", "way"),
    [("redis://localhost", "Raise its maxclients"), ("embedded:///tmp/x", "Raise `ulimit -n`")],
)
def test_a_server_with_too_many_clients_says_what_to_raise(url: str, way: str) -> None:
    error = ReplyError("ERR max number of clients reached")
    assert way in str(server_facts.connect_error(parse_url(url), error))


def test_a_name_that_cannot_be_says_which_characters_are_refused() -> None:
    assert [check_queue_name(name) for name in ("*", "a b", "é:1")] == ["*", "a b", "é:1"]
    with pytest.raises(UsageError, match=r"Refused are '/', '\{' and '\}', invisible"):
        check_queue_name("a/b")
    with pytest.raises(UsageError, match=r"must not contain '/', '\{', '\}' or invisible"):
        TaskOptions(queue="a{b")
