"""HTML: text is escaped and made printable, HTML stays, and nothing else becomes markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import get_type_hints
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from nbqueue.notebook.panel.tab import Tab
from nbqueue.notebook.view import View
from nbqueue.printable import printable
from nbqueue.views import controls
from nbqueue.views import html as h

MOMENT_MS = 1_782_878_400_000


class Parsed(HTMLParser):
    """The tags, the attributes and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_is_text_and_any_attribute_one_value(content: str, title: str) -> None:
    found = Parsed(h.element("span", content, title=title, data_x="y"))
    assert found.tags == ["span"]
    assert found.attributes == [("title", printable(title, lines=True)), ("data-x", "y")]
    assert found.text == printable(content, lines=True)


def test_html_is_not_escaped_again() -> None:
    inner = h.element("b", "<")
    assert h.element("i", inner, ">") == "<i><b>&lt;</b>&gt;</i>"
    assert h.join([inner, "&"], " ") == "<b>&lt;</b> &amp;"
    assert h.row(h.NOTHING, "", inner).count("<div>") == 1


def test_attributes_that_are_off_are_left_out() -> None:
    assert h.element("input", checked=True, disabled=False, title=None) == "<input checked>"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_value_that_comes_back_is_exact(value: str) -> None:
    for made in (
        controls.field(value, "act", label="x"),
        controls.choice(value, [(value, "text")], "act", label="x"),
    ):
        assert ("value", value) in Parsed(made).attributes


@given(st.text(st.characters()))
def test_arguments_of_a_button_come_back_exact(value: str) -> None:
    found = dict(Parsed(controls.button("x", "act", label="x", args={"id": value})).attributes)
    assert json.loads(str(found["data-args"])) == {"id": value}


PIECES = {
    "card": lambda text: h.card(h.row(text), label=text),
    "row": lambda text: h.row(text, text),
    "unbroken": lambda text: h.unbroken(text, text),
    "strong": h.strong,
    "pale": lambda text: h.pale(text, text),
    "titled": lambda text: h.titled(text, text),
    "fact": lambda text: h.fact(text, text),
    "code": h.code,
    "pre": h.pre,
    "problem": h.problem,
    "announcement": h.announcement,
    "badge": h.badge,
    "bar": lambda text: h.bar(1, 2, label=text, state=text),
    "table": lambda text: h.table([text], [[text]], caption=text),
    "button": lambda text: controls.button(text, text, label=text, ask=text, args={text: text}),
    "link": lambda text: controls.link(text, text, label=text, args={text: text}),
    "tab": lambda text: controls.tab_button(text, is_open=True, edge="red"),
    "field": lambda text: controls.field(text, text, label=text, placeholder=text),
    "choice": lambda text: controls.choice(text, [(text, text)], text, label=text),
    "checkbox": lambda text: controls.checkbox(True, text, label=text, args={text: text}),
}


@pytest.mark.parametrize("name", PIECES)
def test_no_piece_takes_text_for_html(name: str) -> None:
    made = PIECES[name]("<script>\"x\" onclick='y' &lt; </div>--><!--")
    assert isinstance(made, Markup)
    plain = PIECES[name]("x")
    assert Parsed(made).tags == Parsed(plain).tags
    assert [key for key, _ in Parsed(made).attributes] == [
        key for key, _ in Parsed(plain).attributes
    ]


def test_what_is_shown_as_html_has_its_type() -> None:
    # A type checker then refuses text there.
    assert get_type_hints(h.card)["parts"] is Markup
    for shown in (h.element, h.card, h.table, View.html, Tab.html):
        assert get_type_hints(shown, localns={"Shown": object})["return"] is Markup


def test_a_time_is_local_unless_its_zone_is_given() -> None:
    day = h.time(MOMENT_MS)
    assert 'datetime="2026-07-01T04:00:00+00:00"' in day
    assert 'data-local="day"' in day
    assert 'data-local="clock"' in h.time(MOMENT_MS, MOMENT_MS)
    paris = h.time(MOMENT_MS, tz=ZoneInfo("Europe/Paris"))
    assert ">2026-07-01 06:00:00 CEST</time>" in paris
    assert 'title="2026-07-01 06:00:00 CEST (+0200)"' in paris
    assert "data-local" not in paris
    assert h.time(None) == "–"
