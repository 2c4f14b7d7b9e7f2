"""What cards and the panel show of a result that they do not load."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import nbqueue
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.task_detail import TaskDetail
from nbqueue.notebook.panel.model_table import Drawing
from nbqueue.notebook.panel.task_view import task_view
from nbqueue.notebook.task_card import FutureCard
from nbqueue.tasks.result_preview import ResultPreview, preview_owner
from nbqueue.wire.keys import queue_keys

KEY = "5b" * 32
EVIL = "<script>alert(1)</script><b>\x1b[2J</b>"


class Unloadable:
    """Loading it in the process of a view would be seen."""

    loaded: list[int]

    def __init__(self, text: str = EVIL) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        return _load, (self.text,)

    def _repr_html_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Unloadable({self.text})"


def _load(text: str) -> Unloadable:
    sys.modules["json"].was_loaded = True  # type: ignore[attr-defined]
    return Unloadable(text)


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"a": range(rows), "b": "x"})


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[nbqueue.Client]:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def done(future: nbqueue.TaskFuture[Any]) -> nbqueue.TaskFuture[Any]:
    assert nbqueue.wait(future, timeout=30).done
    return future


def shown_by(q: nbqueue.Client, future: nbqueue.TaskFuture[Any]) -> tuple[str, str]:
    """Return what a card and the panel show."""
    detail = TaskDetail(Scope(q), future.queue, future.id)
    detail.read()
    drawing = Drawing(live=False, acts=False, now_ms=0)
    return FutureCard(future).html(live=False), task_view(detail, drawing)


def test_views_show_results_without_loading_them(lab: Any, q: nbqueue.Client) -> None:
    with lab.worker(concurrency=1):
        table, large = done(q.submit(frame, 50)), done(q.submit(frame, 90_000))
        strange, plain = done(q.submit(Unloadable)), done(q.submit(dict, a=[1, 2]))
    for future, summary in (
        (table, "DataFrame 50 rows × 2 columns"),
        (large, "DataFrame 90,000 rows × 2 columns"),
        (strange, "Unloadable(&lt;script&gt;"),
        (plain, "{&#39;a&#39;: [1, 2]}"),
    ):
        for page in shown_by(q, future):
            assert summary in page
            assert "<script" not in page
            assert "\x1b" not in page
        assert future._outcome is not None
        assert future._outcome.loaded is None
    assert not hasattr(sys.modules["json"], "was_loaded")
    assert lab.redis.hexists(queue_keys("default").task(table.id), "nbq:preview")
    assert not lab.redis.hexists(queue_keys("default").task(plain.id), "nbq:preview")
    [document] = re.findall(r'<iframe sandbox="" srcdoc="([^"]*)"', shown_by(q, strange)[0])
    assert "<script>alert(1)</script>" in html.unescape(document)
    assert "default-src 'none'" in html.unescape(document)


def test_a_preview_that_was_not_signed_for_the_task_is_not_shown(
    lab: Any, q: nbqueue.Client
) -> None:
    with lab.worker(concurrency=1):
        future = done(q.submit(frame, 50))
    key, keys = queue_keys("default").task(future.id), Keyring([bytes.fromhex(KEY)])
    body = ResultPreview("forged", html="<b>forged</b>").pack()
    envelope = payloads.pack_result(payloads.PREVIEW, body)
    for stored in (
        body,
        envelope,
        keys.sign_result(envelope, future.id),
        keys.sign_result(envelope, preview_owner(future.id, "other")),
        keys.sign_result(
            payloads.pack_result(payloads.DISPLAY, body), preview_owner(future.id, "default")
        ),
        keys.sign_result(
            payloads.pack_result(payloads.PREVIEW, b"[]"), preview_owner(future.id, "default")
        ),
        keys.sign_value(b"\x80\x05.", future.id),
    ):
        lab.redis.hset(key, "nbq:preview", stored)
        for page in shown_by(q, future):
            assert "not shown: its preview" in page
            assert "forged" not in page
    owned = keys.sign_result(envelope, preview_owner(future.id, "default"))
    lab.redis.hset(key, "nbq:preview", owned)
    assert all("forged" in page for page in shown_by(q, future))


@pytest.mark.parametrize("how", ["option", pytest.param("environment", marks=pytest.mark.slow)])
def test_previews_can_be_turned_off(
    lab: Any, q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("NBQUEUE_PREVIEWS", "0")
    with lab.worker(concurrency=1, **({"previews": False} if how == "option" else {})):
        future = done(q.submit(frame, 50))
    assert not lab.redis.hexists(queue_keys("default").task(future.id), "nbq:preview")
    assert all("result() loads it" in html.unescape(page) for page in shown_by(q, future))
    assert len(future.result(0)) == 50
    assert "a b 0 0 x" in FutureCard(future).html(live=False)
