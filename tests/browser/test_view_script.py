"""The script of live views in a page of its own: rows and fields keep their identity."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any

import pytest
from markupsafe import Markup
from waits import let_time_pass, wait_until

from nbqueue.views import controls
from nbqueue.views import html as h

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

LOAD = """async ([source, still]) => {
    const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    const view = (await import(url)).default;
    const state = {html: "", done: {}, still, live: true}, handlers = {};
    const statuses = [];
    window.sent = [];
    window.model = {
        get: name => state[name],
        send: message => window.sent.push(message),
        on: (name, f) => { (handlers[name] ??= []).push(f); },
        off: () => {},
        save_changes: () => {},
        set: (changes, value) => {
            if (typeof changes === "string") changes = {[changes]: value};
            Object.assign(state, changes);
            for (const name of Object.keys(changes)) {
                for (const f of handlers["change:" + name] ?? []) f();
            }
        },
        widget_manager: {kernel: {statusChanged: {
            connect: f => statuses.push(f),
            disconnect: f => statuses.splice(statuses.indexOf(f), 1),
        }}},
        status: name => { for (const f of [...statuses]) f(null, name); },
        say: message => { for (const f of handlers["msg:custom"] ?? []) f(message); },
    };
    view.initialize({model: {...window.model}});
    if (!still) view.render({model: window.model, el: document.body});
}"""


class Script:
    """The script with a kernel that a test plays."""

    def __init__(self, page: Any, still: str = "") -> None:
        self.page = page
        source = resources.files("nbqueue.notebook") / "static" / "view.js"
        page.evaluate(LOAD, [source.read_text("utf-8"), still])

    def draw(self, html: Markup, **done: int) -> None:
        """Send HTML; ``done`` is the number of the last action that it takes into account."""
        page_id = self.page.evaluate("window.sent[0].page")
        counted = {page_id: done["done"]} if done else {}
        self.page.evaluate("changes => model.set(changes)", {"html": str(html), "done": counted})

    def acts(self) -> list[dict[str, Any]]:
        sent = self.page.evaluate("window.sent")
        return [each for each in sent if each["kind"] == "act"]


@pytest.fixture
def script(browser: Any) -> Iterable[Script]:
    context = browser.new_context()
    yield Script(context.new_page())
    context.close()


def table(ids: Iterable[str], selected: Iterable[str] = (), field: str = "") -> Markup:
    """Return rows with a checkbox, a field that may be named, and a button that asks."""
    chosen = set(selected)
    rows = [
        [
            controls.checkbox(each in chosen, "select", label=f"Select {each}", args={"id": each}),
            each,
            controls.field("*", "spec", label=f"When {each}", args={"id": each}),
        ]
        for each in ids
    ]
    count = f"Delete {len(chosen)} tasks?"
    parts = [
        controls.field(field, "filter", label="Type", args={"name": "type"}),
        controls.button("Delete", "act", label="Delete", ask=count),
        h.table(["", "id", "when"], rows, caption="rows", keys=list(ids)),
    ]
    return h.card(h.row(*parts), label="view")


def test_a_tick_is_of_the_model_and_moves_with_its_row(script: Script) -> None:
    script.draw(table(["a", "b", "c"]))
    script.page.get_by_label("Select b").check()
    assert script.acts()[-1]["args"] == {"id": "b", "value": True}
    # Drawn before the kernel took the tick into account: it stays.
    script.draw(table(["b", "c"]))
    assert script.page.get_by_label("Select b").is_checked()
    assert not script.page.get_by_label("Select c").is_checked()
    # From then on the model decides, although the checkbox has the focus.
    script.draw(table(["c", "b"], ["b"]), done=1)
    assert script.page.get_by_label("Select b").is_checked()
    assert focused(script) == "Select b"
    script.draw(table(["c", "b"]), done=1)
    assert not script.page.get_by_label("Select b").is_checked()


@pytest.mark.parametrize("order", ["dbca", "bacd", "cdb", "xyzb", "b"])
def test_half_typed_text_caret_and_focus_stay_while_rows_move(script: Script, order: str) -> None:
    script.draw(table("abcd"))
    field = script.page.get_by_label("When b")
    field.click()
    field.press("End")
    field.type("/5 *")
    field.press("ArrowLeft")
    script.draw(table(order))
    assert field.input_value() == "*/5 *"
    assert focused(script) == "When b"
    assert field.evaluate("each => each.selectionStart") == 4
    labels = script.page.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert labels == list(order)
    field.press("Enter")
    assert script.acts()[-1]["args"] == {"id": "b", "value": "*/5 *"}
    # The text that was sent stays until the kernel answers, and then is that of the model.
    script.draw(table(order))
    assert field.input_value() == "*/5 *"
    script.draw(table(order), done=1)
    assert field.input_value() == "*"


def test_a_filter_is_sent_at_a_pause_and_before_what_is_pressed(script: Script) -> None:
    part = controls.field("", "filter", label="Filter", as_typed=True)
    other = controls.field("", "rename", label="Name")
    script.draw(h.join([part, other, controls.button("Delete all", "delete", label="Delete")]))
    script.page.get_by_label("Name").press_sequentially("x")
    script.page.get_by_label("Filter").press_sequentially("lr=0")
    wait_until(lambda: len(script.acts()) == 2)  # the name, as its field was left
    assert [each["args"]["value"] for each in script.acts()] == ["x", "lr=0"]
    script.page.get_by_label("Filter").press_sequentially(".1")
    script.page.get_by_label("Delete").evaluate("button => button.click()")
    assert [each["action"] for each in script.acts()][2:] == ["filter", "delete"]
    assert script.acts()[2]["args"]["value"] == "lr=0.1"


def test_a_question_is_asked_again_when_it_changes(script: Script) -> None:
    script.draw(table("ab", "a"))
    button = script.page.get_by_role("button", name="Delete")
    button.click()
    assert button.inner_text() == "Delete 1 tasks?"
    script.draw(table("b", "b"))
    assert button.inner_text() == "Delete 1 tasks?"
    script.draw(table("ab", "ab"))
    assert button.inner_text() == "Delete"
    button.click()
    assert script.acts() == []
    button.click()
    assert [each["action"] for each in script.acts()] == ["act"]


def test_an_output_opens_at_its_end_and_follows_unless_it_is_scrolled(script: Script) -> None:
    def output(first: int, last: int) -> Markup:
        blocks = [
            h.keyed(f"lines {n}", "\n".join(f"line {n}.{i}" for i in range(20)))
            for n in range(first, last)
        ]
        return h.card(h.pre(h.join(blocks), follows=True), label="output")

    def wait(condition: str) -> None:
        script.page.wait_for_function(f"() => {{ {BOX} return {condition}; }}")

    at_end = "box.scrollHeight - box.scrollTop - box.clientHeight < 4"
    script.draw(output(0, 5))
    wait(at_end)
    script.draw(output(0, 8))
    wait(at_end)
    script.page.evaluate(f"() => {{ {BOX} box.scrollTop = 700; }}")
    before = script.page.evaluate(f"() => {{ {BOX} return {TOP_LINE}; }}")
    script.draw(output(1, 12))
    assert script.page.evaluate(f"() => {{ {BOX} return {TOP_LINE}; }}") == before
    script.page.evaluate(f"() => {{ {BOX} box.scrollTop = box.scrollHeight; }}")
    script.draw(output(2, 13))
    wait(at_end)


def test_a_list_to_choose_from_shows_what_the_model_chose(script: Script) -> None:
    def choice(value: str) -> Markup:
        options = [("a", "first"), ("b", "second"), ("c", "third")]
        return h.card(controls.choice(value, options, "set", label="State"), label="view")

    script.draw(choice("a"))
    chosen = script.page.get_by_label("State")
    chosen.select_option("b")
    chosen.evaluate("each => each.blur()")
    script.draw(choice("a"))
    assert chosen.input_value() == "b"
    script.draw(choice("c"), done=1)
    assert chosen.input_value() == "c"


def test_a_file_is_saved_by_the_page_that_asked(script: Script) -> None:
    script.draw(table("a"))
    page_id = script.page.evaluate("window.sent[0].page")
    file = {"kind": "file", "page": page_id, "name": "tasks.csv", "text": "id\na\n"}
    with script.page.expect_download() as download:
        script.page.evaluate("file => model.say({...file, page: 'another', name: 'no.csv'})", file)
        script.page.evaluate("file => model.say(file)", file)
    assert download.value.suggested_filename == "tasks.csv"
    assert download.value.path().read_text() == "id\na\n"


NOTIFICATION = """permission => {
    window.shown = [];
    window.Notification = class {
        static permission = permission;
        static async requestPermission() { Notification.permission = "granted"; }
        constructor(title) { window.shown.push(title); }
    };
    document.hasFocus = () => window.looks ?? false;
    document.title = "Lab";
}"""


def test_a_bell_asks_at_a_click_notifies_and_marks_the_tab(script: Script) -> None:
    page = script.page
    bell = page.get_by_role("button", name="Notify me of a")
    card = h.card(controls.bell_button("Notify me of a"), label="view")

    def end(title: str) -> list[str]:
        page.evaluate("title => model.say({kind: 'ended', title, body: '', tag: 'a'})", title)
        shown: list[str] = page.evaluate("window.shown")
        return shown

    page.evaluate(NOTIFICATION, "default")
    script.draw(card)
    assert end("✓ a") == []
    assert page.title() == "Lab"
    # The kernel set the bell, and the browser has to be asked.
    page.evaluate("model.set({bell: true})")
    assert bell.inner_text() == "Allow notification"
    assert end("✓ a") == []
    assert page.title() == "✓ a – Lab"
    bell.click()
    page.wait_for_function("Notification.permission === 'granted'")
    script.draw(card)
    assert bell.inner_text() == "Will notify"
    assert bell.get_attribute("aria-pressed") == "true"
    assert end("✗ b") == ["✗ b"]
    assert page.title() == "✗ b – Lab"
    page.evaluate("() => { window.looks = true; window.dispatchEvent(new Event('focus')); }")
    assert page.title() == "Lab"
    # A tab that is looked at needs no mark. The bell can be switched off.
    assert end("✓ c") == ["✗ b", "✓ c"]
    assert page.title() == "Lab"
    bell.click()
    assert bell.inner_text() == "Notify me"
    assert end("✓ d") == ["✗ b", "✓ c"]


STILL = '<div data-nbqueue-view="v1">a still of {}</div>'
PUT = """([id, html]) => {
    let host = document.getElementById(id);
    if (!host) {
        host = document.body.appendChild(document.createElement("div"));
        host.append(host.output = document.createElement("div"));
        host.id = id;
        host.output.className = "output rendered_html";
    }
    host.output.innerHTML = html;
}"""


def test_a_view_takes_the_place_of_stills_and_loses_nothing_when_they_are_replaced(
    browser: Any,
) -> None:
    context = browser.new_context()
    page = context.new_page()

    def put(output: str, html: str) -> None:
        page.evaluate(PUT, [output, html])

    def seen() -> list[str]:
        found: list[str] = page.locator(".output").filter(visible=True).all_inner_texts()
        return found

    put("one", STILL.format(1))
    script = Script(page, "v1")
    script.draw(h.card(table("ab"), h.folded("More", h.pre("text")), label="view"))
    view = page.locator(".nbqueue-view")
    assert view.count() == 1
    assert "still" not in "".join(seen())
    field = page.get_by_label("When b")
    field.click()
    field.press("End")
    field.type("/5")
    page.get_by_text("More").dispatch_event("click")
    put("one", STILL.format(2))
    assert "still" not in "".join(seen())
    assert (field.input_value(), focused(script)) == ("*/5", "When b")
    assert page.locator("details").get_attribute("open") is not None
    # A second output of the same display has a view of its own; actions of both have one count.
    put("two", STILL.format(2))
    assert view.count() == 2
    field.first.press("Enter")
    page.get_by_label("Select a").last.check()
    assert [each["number"] for each in script.acts()] == [1, 2]
    # An end that needs no view is seen itself.
    put("two", "the end")
    assert view.count() == 1
    assert seen()[1] == "the end"
    page.evaluate("() => { model.status('restarting'); }")
    assert view.count() == 0
    assert seen() == ["a still of 2", "the end"]
    context.close()


def test_a_page_reports_that_a_view_is_gone_but_not_if_it_is_moved(browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.evaluate(PUT, ["one", STILL.format(1)])
    script = Script(page, "v1")
    script.draw(table("a"))
    page.evaluate(
        "() => { const one = document.getElementById('one'); one.remove();"
        " setTimeout(() => document.body.append(one), 10); }"
    )
    page.wait_for_selector(".nbqueue-view")
    kinds = "window.sent.map(each => each.kind)"
    let_time_pass(1.2)
    assert "gone" not in page.evaluate(kinds)
    page.evaluate("document.getElementById('one').remove()")
    page.wait_for_function(f"{kinds}.includes('gone')")
    context.close()


def focused(script: Script) -> str:
    found: str = script.page.evaluate("document.activeElement.getAttribute('aria-label')")
    return found


BOX = "const box = document.querySelector('[data-follow]');"
TOP_LINE = """(() => {
    const top = box.getBoundingClientRect().top;
    const line = [...box.children].find(each => each.getBoundingClientRect().bottom > top);
    return line.dataset.key + " " + Math.round(line.getBoundingClientRect().top - top);
})()"""
