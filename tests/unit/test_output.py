"""The output of a task, put together from its entries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbqueue.broker.reads.task_outputs import Entry, display_owner
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.results.output import Cut, Output, make_output
from nbqueue.client.results.reported_progress import Bar, parse_progress

KEYS = Keyring([bytes(range(32))])
OTHERS = Keyring([bytes(32)])


def entries(*parts: tuple[str, Any], attempt: int = 1) -> list[Entry]:
    """Entries without gaps."""
    found: list[Entry] = []
    size = lines = 0
    for number, (kind, data) in enumerate(parts, 1):
        body = data.encode() if isinstance(data, str) else data
        found.append(Entry(attempt, number, 1_000, kind, size, lines, body))
        if kind in ("stdout", "stderr"):
            size += len(body)
            lines += body.count(b"\n")
    return found


def signed(
    data: dict[str, Any], attempt: int = 1, keys: Keyring = KEYS, task_id: str = "a", **more: Any
) -> bytes:
    body = json.dumps({"data": data, "metadata": {}, **more}).encode()
    envelope = payloads.pack_result(payloads.DISPLAY, body)
    return keys.sign_result(envelope, display_owner(task_id, attempt))


def output(*parts: tuple[str, Any]) -> Output:
    return make_output(KEYS, "a", entries(*parts))


def test_streams_are_apart_and_together_in_order() -> None:
    found = output(("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "th"), ("stdout", "ree"))
    assert found.text == "one\ntwo\nthree"
    assert (found.stdout, found.stderr) == ("one\nthree", "two\n")
    assert [part.kind for part in found.parts] == ["stdout", "stderr", "stdout"]
    assert found.cut is None
    assert bool(found)
    assert repr(found) == str(found) == "one\ntwo\nthree"


def test_nothing_is_said_to_be_nothing() -> None:
    found = make_output(KEYS, "a", [])
    assert not found
    assert found.text == ""
    assert found.attempt == 0
    assert repr(found) == "<Output of task a: nothing>"
    assert "nothing was put out" in found._repr_html_()


def test_the_last_attempt_counts_unless_another_is_named() -> None:
    both = [*entries(("stdout", "first")), *entries(("stdout", "second"), attempt=3)]
    assert make_output(KEYS, "a", both).text == "second"
    assert make_output(KEYS, "a", both).attempt == 3
    assert make_output(KEYS, "a", both, 1).text == "first"
    assert make_output(KEYS, "a", both, 2).text == ""


def test_a_character_may_lie_in_two_entries() -> None:
    body = "é".encode()
    assert output(("stdout", body[:1]), ("stdout", body[1:])).text == "é"


def test_carriages_return_across_entries() -> None:
    assert output(("stdout", "10%"), ("stdout", "\r20%"), ("stdout", "\r99%\n")).text == "99%\n"


def test_what_is_missing_is_said_where_it_is_missing() -> None:
    rows = [
        Entry(1, 1, 0, "stdout", 0, 0, b"head"),
        Entry(1, 9, 0, "stdout", 1_004, 12, b"tail\n"),
        Entry(1, 10, 0, "stderr", 3_000_009, 20_013, b"end"),
    ]
    found = make_output(KEYS, "a", rows)
    assert found.text == (
        "head\n… 12 lines (1.0 kB) cut …\ntail\n… 20,000 lines (3.0 MB) cut …\nend"
    )
    assert found.cut == Cut(20_012, 3_000_000)
    assert found.stdout == "headtail\n"
    # The head may be gone, too.
    assert make_output(KEYS, "a", rows[1:2]).text == "… 12 lines (1.0 kB) cut …\ntail\n"


def test_displays_are_verified_and_in_their_place() -> None:
    html = {"text/plain": "p", "text/html": "<b>x</b>"}
    found = output(("stdout", "before\n"), ("display", signed(html)), ("stdout", "after\n"))
    assert [display.data for display in found.displays] == [html]
    assert found.text == "before\nafter\n"
    assert repr(found) == "before\np\nafter"
    page = found._repr_html_()
    assert page.index("before") < page.index("<b>x</b>") < page.index("after")
    assert found._repr_mimebundle_() == {"text/plain": repr(found), "text/html": page}


@pytest.mark.parametrize(
    "forged",
    [
        json.dumps({"data": {"text/html": "<script>"}}).encode(),
        signed({"text/html": "<script>"}, keys=OTHERS),
        signed({"text/html": "<script>"}, attempt=2),
        signed({"text/html": "<script>"}, task_id="b"),
        signed({"text/html": "<script>"})[:-1] + b" ",
        KEYS.sign_result(payloads.pack_result(payloads.VALUE, b"{}"), display_owner("a", 1)),
        payloads.pack_result(payloads.DISPLAY, b'{"data":{"text/html":"<script>"}}'),
    ],
)
def test_a_display_that_nobody_signed_for_this_attempt_is_refused(forged: bytes) -> None:
    found = output(("display", forged))
    assert found.displays == []
    assert found.text == "[a display is not shown: it was not signed with the key]\n"
    assert "<script>" not in found._repr_html_()


def test_text_is_never_markup() -> None:
    page = output(("stdout", "<script>\x1b[31m</pre>"), ("stderr", "&"))._repr_html_()
    assert "&lt;script&gt;" in page
    assert "&lt;/pre&gt;" in page
    assert page.count("</pre>") == 2


def test_pictures_are_embedded_and_odd_ones_are_not() -> None:
    page = output(("display", signed({"image/png": "iVBORw=="})))._repr_html_()
    assert 'src="data:image/png;base64,iVBORw=="' in page
    page = output(("display", signed({"image/png": '" onerror="x'})))._repr_html_()
    assert "onerror" not in page


def test_a_display_with_an_id_is_replaced_in_its_place() -> None:
    found = output(
        ("display", signed({"text/plain": "1"}, id="d")),
        ("stdout", "between\n"),
        ("display", signed({"text/plain": "2"}, id="d")),
    )
    assert repr(found) == "2\nbetween"


def test_what_was_cleared_is_gone_at_once_or_with_what_follows() -> None:
    assert output(("stdout", "a"), ("clear", ""), ("stdout", "b")).text == "b"
    assert output(("stdout", "a"), ("clear", "")).text == ""
    assert output(("stdout", "a"), ("clear", "wait")).text == "a"
    assert output(("stdout", "a"), ("clear", "wait"), ("stdout", "b")).text == "b"


def test_a_notebook_replays_each_part_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    shown: list[Any] = []
    monkeypatch.setattr(
        IPython.display, "display", lambda data, metadata=None, raw=False: shown.append((data, raw))
    )
    vega = {"application/vnd.vega.v5+json": {"mark": "bar"}}
    output(("stdout", "\x1b[1mtext\x1b[0m\n"), ("display", signed(vega)))._ipython_display_()
    (text, text_raw), second = shown
    assert (text["text/plain"], text_raw) == ("text", True)
    assert "font-weight:600" in text["text/html"]
    assert second == (vega, True)
    shown.clear()
    output()._ipython_display_()
    assert [data["text/plain"] for data, _ in shown] == ["nothing was put out"]


def test_progress_is_read_with_its_times_and_rates() -> None:
    body = json.dumps({
        "at": 2_000_000_000_000, "attempt": 2, "fields": {"loss": 0.123456},
        "bars": [{"desc": "fit", "n": 3, "total": 10, "unit": "it", "rate": 2.0, "postfix": "p"},
                 {"desc": "", "n": 0.5, "total": 1.0, "unit": "", "rate": None, "postfix": ""},
                 {"desc": "x", "n": 7, "total": None, "unit": "it", "rate": None, "postfix": ""}],
    }).encode()  # fmt: skip
    found = parse_progress(body)
    assert found is not None
    assert found.bars[0] == Bar("fit", 3, 10, "it", 2.0, "p")
    assert (found.fraction, found.bars[0].seconds_left) == (0.3, 3.5)
    assert (found.bars[2].fraction, found.bars[2].seconds_left) == (None, None)
    assert found.attempt == 2
    assert found.at.isoformat() == "2033-05-18T03:33:20+00:00"
    assert str(found) == "fit: 30% 3/10 p, 50%, x: 7, loss=0.1235"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"bars":1}', b'{"bars":[],"fields":[1],"at":1}', b"1", b'"x"',
     b'{"bars":[{"desc":"","n":"x","total":1}],"fields":{},"at":1}',
     b'{"bars":[],"fields":{},"at":1e300}'],
)  # fmt: skip
def test_progress_that_makes_no_sense_is_none(body: bytes) -> None:
    assert parse_progress(body) is None
