"""nbqueue in JupyterLab: live displays, working buttons, lasting files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from lab_page import Lab
from waits import wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

SETUP = """
%load_ext nbqueue
%nbqueue up -n 2 --with-kernel
import nbqueue, time
q = nbqueue.connect()
def nap(seconds):
    import time
    time.sleep(seconds)
    return f"slept {seconds}"
def steps(seconds):
    import nbqueue, time
    for _ in nbqueue.progress(range(10)):
        time.sleep(seconds / 10)
    return f"slept {seconds}"
def fail(number):
    if number % 2:
        raise ValueError(f"odd number {number}")
    return number
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


def saved_html(lab: Lab) -> str:
    """Save, and return the HTML of all outputs in the file, none of which is a widget."""
    found = [
        output["data"]
        for cell in lab.save()["cells"]
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    assert not any(WIDGET in data for data in found)
    return "".join("".join(data.get("text/html", "")) for data in found)


def test_a_card_is_saved_as_it_is_and_needs_no_kernel(lab: Lab) -> None:
    lab.open(
        SETUP,
        "f = q.options(name='$5 and $6').submit(steps, 3)\nf",
        # Later tests have the same store: it does not take one of their slots for long.
        "g = q.options(name='sweep', timeout=45).map(nap, [0, 2, 300])\ng",
    )
    lab.run_all()
    lab.wait_text("active")
    bar = lab.page.get_by_role("progressbar").first
    assert bar.get_attribute("aria-label")
    lab.wait_text("slept 3")
    lab.wait_text("completed")
    # An end is saved at once, a moment before it after at most 10 seconds.
    wait_until(lambda: "slept 3" in saved_html(lab))
    lab.wait_text("2 of 3 (66%)")
    began = time.monotonic()
    wait_until(lambda: "2 of 3 (66%)" in saved_html(lab))
    assert time.monotonic() - began < 15.0
    assert lab.button("Cancel what has not ended of sweep").is_visible()
    # After a restart it shows its last moment, and how to get it back; in an open page, too.
    lab.restart()
    lab.wait_text("shows it live")
    assert lab.page.locator(".nbqueue-view").count() == 0
    lab.visit()
    for text in (
        "$5 and $6",
        "slept 3",
        "2 of 3 (66%)",
        "as of",
        "q.group('sweep')",
        "shows it live",
    ):
        lab.wait_text(text)
    assert "model not found" not in lab.page.content()
    assert lab.page.locator("mjx-container").count() == 0


def test_a_button_asks_first_and_then_cancels(lab: Lab) -> None:
    lab.open(SETUP, "f = q.options(name='long').submit(nap, 300)\nf")
    lab.run_all()
    lab.wait_text("active")
    button = lab.button("Cancel long")
    button.click()
    assert button.inner_text() == "Cancel 1 task?"
    button.click()
    lab.wait_text("cancelled")


def test_a_group_shows_its_errors_and_what_is_left(lab: Lab) -> None:
    lab.open(SETUP, "g = q.map(fail, range(40))\ng")
    lab.run_all()
    lab.wait_text("(100%)")
    text = lab.text()
    assert "ValueError: odd number 1" in text
    assert "and 17 more that failed" in text
    assert "20" in text


def test_a_display_goes_on_after_the_page_was_left_and_can_run_again_what_failed(
    lab: Lab, jupyter: Path
) -> None:
    lab.open(
        SETUP + "def load(path):\n    return len(open(path).read())\n",
        "g = q.map(nap, [0.5] * 20)\ng",
        f"path = {str(jupyter / 'late')!r}\n"
        "f = q.options(name='one').submit(load, path); f.exception()\nf",
        "s = q.options(name='some').map(load, [path] * 3)\ns",
    )
    lab.run_all()
    lab.wait_text("of 20")
    lab.wait_text("3 × FileNotFoundError")
    lab.save()
    lab.leave()
    lab.visit()
    lab.wait_text("(100%)", timeout=60)
    # Ended cards have buttons as long as the kernel runs.
    assert lab.button("Copy call and error").is_visible()
    lab.page.get_by_role("button", name="in this notebook").click()
    lab.wait_text("%debug in the next cell")
    (jupyter / "late").write_text("four")
    for button, card in (
        ("Run one again", "task one"),
        ("Run what failed of some again", "task group some"),
    ):
        lab.button(button).click()
        lab.page.get_by_role("group", name=card).get_by_text("completed").first.wait_for()
        assert lab.button(button).count() == 0

    # What this page saves is the end as well, although the display was made in another one.
    def is_saved() -> bool:
        html = saved_html(lab)
        return "20 of 20 (100%)" in html and "as of" not in html and "NotFoundError" not in html

    wait_until(is_saved)
    assert lab.page.locator(".nbqueue-view").count() == 0


NOTIFICATIONS = """() => {
    window.shown = [];
    window.Notification = class {
        static permission = "default";
        static async requestPermission() { Notification.permission = "granted"; }
        constructor(title, options) { window.shown.push([title, options.body]); }
        close() {}
    };
    window.looks = true;
    document.hasFocus = () => window.looks;
}"""


def test_a_bell_notifies_of_the_end_and_marks_the_tab(lab: Lab) -> None:
    lab.open(
        SETUP,
        "f = q.options(name='train').submit(steps, 8)\nf",
        "g = q.options(name='sweep').map(steps, [9]).notify()\ng.wait(); g",
    )
    lab.page.evaluate(NOTIFICATIONS)
    lab.start_all()
    # The kernel is blocked: the page itself answers. Browsers ask for permission at a click only.
    lab.wait_text("Allow notification")
    lab.button("Notify me when train has ended").click()
    lab.wait_text("Will notify")
    wait_until(lambda: lab.outputs().get_by_text("Allow notification").count() == 0)
    lab.page.evaluate("() => { window.looks = false; }")
    lab.page.wait_for_function("window.shown.length === 2", timeout=40_000)
    assert lab.page.evaluate("window.shown[0]") == ["✓ train completed", "'slept 8'"]
    title, body = lab.page.evaluate("window.shown[1]")
    assert title == "✓ sweep completed"
    assert "1 of 1" in body
    assert lab.page.title().startswith("✓ sweep completed – ")
    lab.page.evaluate("() => { window.looks = true; window.dispatchEvent(new Event('focus')); }")
    assert "sweep" not in lab.page.title()
    # `notify` shows the card, and the last line of the cell does not show it again.
    cards = lab.outputs().filter(has_text="sweep")
    assert cards.count() == 1


def test_the_panel_pages_filters_and_acts(lab: Lab) -> None:
    lab.open(
        SETUP,
        "q.inspector.pause('later')\n"
        "g = q.options(queue='later').map(nap, [1] * 120)\n"
        "q.options(queue='later').submit(fail, 2)\n"
        "q.panel(queues=['later'])",
    )
    lab.run_all()
    lab.wait_text("1 queue, 121 tasks")
    lab.button("Show the 121 pending tasks of later").click()
    lab.wait_text("1–50 of 121")
    lab.button("The next page").click()
    lab.wait_text("51–100 of 121")
    field = lab.page.get_by_label("Type", exact=True)
    field.fill("fail")
    field.press("Enter")
    lab.wait_text("1–1 of 1 that fit")
    lab.page.get_by_label("Select this page").check()
    lab.wait_text("1 selected")
    button = lab.button("Delete the 1 selected task")
    button.click()
    button.click()
    lab.wait_text("1 deleted")
    lab.page.get_by_role("tab", name="Queues").click()
    lab.wait_text("1 queue, 120 tasks")
    lab.page.get_by_role("tab", name="Workers").click()
    lab.wait_text("slots in use")


def test_a_tick_and_a_half_typed_filter_stay_while_tasks_move(lab: Lab) -> None:
    lab.open(
        SETUP,
        "names = [q.options(queue='moving', task_id=f't{i:03d}').submit(nap, 1).id"
        " for i in range(60)]\n"
        "q.inspector.pause('moving')\n"
        "import threading, nbqueue.notebook.live.shown as shown\n"
        "shown.STILL_SECONDS = 0.5\n"
        "def remove():\n"
        "    for name in names[:30]:\n"
        "        q.inspector.delete(name, queue='moving')\n"
        "        q.options(queue='moving').submit(nap, 1)\n"
        "        time.sleep(0.1)\n"
        "q.panel(tab='Tasks', queues=['moving'])",
        "threading.Thread(target=remove).start()",
    )
    lab.run_all()
    lab.wait_text("1–50 of 60")
    # Rows move all the time, so a click at a place might hit another row.
    lab.page.get_by_label("Select t035").dispatch_event("click")
    lab.wait_text("1 selected")
    field = lab.page.get_by_label("Id or name of a task", exact=True)
    field.click()
    field.type("half ty")
    lab.page.wait_for_selector('.nbqueue-view [data-key="moving/t035"]')
    wait_until(lambda: lab.page.get_by_label("Select t029").count() == 0, 30)
    # Meanwhile what is saved has been replaced, below the view.
    still = lab.page.locator("[data-nbqueue-view]")
    wait_until(lambda: "t035" in still.text_content() and "t000" not in still.text_content())
    assert lab.page.get_by_label("Select t035").is_checked()
    assert lab.page.locator("input:checked").count() == 1
    assert field.input_value() == "half ty"
    assert field.evaluate("each => each === document.activeElement")
    field.fill("")
    button = lab.button("Delete the 1 selected task")
    button.click()
    button.click()
    lab.wait_text("1 deleted")
    wait_until(lambda: lab.page.get_by_label("Select t035").count() == 0)
    assert lab.page.get_by_label("Select t034").count() == 1
    assert lab.page.get_by_label("Select t036").count() == 1


def test_a_panel_that_is_read_only_has_no_button_that_acts(lab: Lab) -> None:
    lab.open(SETUP, "q.submit(nap, 0).result()\nq.panel(read_only=True)")
    lab.run_all()
    lab.wait_text("read only")
    assert lab.button("Pause default").count() == 0
    lab.page.get_by_role("tab", name="Tasks").click()
    lab.page.get_by_label("State", exact=True).wait_for()
    assert lab.outputs().get_by_text("Delete").count() == 0


EVERYTHING = (
    "good = q.submit(nap, 0); good.result(); good",
    "bad = q.submit(fail, 1); bad.exception(); bad",
    "g = q.map(fail, range(6)); g.results(return_exceptions=True); g",
    "q.options(name='going').submit(nap, 300)",
    "q.options(delay='1h', name='later').submit(nap, 1)",
    "q.schedule(nap, '@hourly', args=(1,), id='nightly')",
    "q",
    "%nbqueue status",
    "q.panel()",
)
TABS = ("Queues", "Tasks", "Groups", "Workers", "Schedules", "Timeline", "History")


def test_every_word_can_be_read_in_both_themes_and_every_control_has_a_name(lab: Lab) -> None:
    lab.open(SETUP, *EVERYTHING)
    lab.run_all()
    for text in ("(100%)", "later", "nightly", "1 worker with 2 slots"):
        lab.wait_text(text)
    for is_dark in (False, True):
        if is_dark:
            lab.dark()
        for tab in TABS:
            lab.page.get_by_role("tab", name=tab).click()
            lab.page.wait_for_selector(f'[role="tab"][aria-selected="true"]:text-is("{tab}")')
            found = lab.page.evaluate(f"({CONTRAST})(document)")
            assert found["ratio"] >= 4.5, (tab, is_dark, found)
            assert found["words"] > 50
            assert lab.page.evaluate(f"({NAMELESS})(document)") == []


def test_a_task_opens_from_the_panel_with_all_about_it(lab: Lab) -> None:
    lab.open(
        SETUP,
        "bad = q.options(task_id='bad').submit(fail, 1); bad.exception()\n"
        "q.panel(tab='Tasks', queues=['default'])",
    )
    lab.run_all()
    lab.page.get_by_label("State", exact=True).wait_for()
    lab.page.get_by_label("State", exact=True).select_option("archived")
    lab.wait_text("newest first")
    lab.button("Show the task bad").click()
    for text in ("Call", "fail(number=1)", "odd number 1", "Attempts that ended"):
        lab.wait_text(text)
    run = lab.page.get_by_role("button", name="Run", exact=False).first
    assert run.get_attribute("aria-label")
    lab.button("Back to all tasks").click()
    lab.wait_text("newest first")


# The accessible names of controls that have none.
NAMELESS = """root => [...root.querySelectorAll(
    '.nbqueue-view button, .nbqueue-view input, .nbqueue-view select, .nbqueue-view a')]
    .filter(each => !(each.getAttribute('aria-label') || each.textContent.trim()))
    .map(each => each.outerHTML)"""

CONTRAST = """root => {
    const rgb = text => text.match(/[\\d.]+/g).map(Number);
    const over = (top, below) => {
        const a = top[3] ?? 1;
        return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a));
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => {
            v /= 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const background = element => {
        const layers = [];
        for (let e = element; e; e = e.parentElement) {
            layers.push(rgb(getComputedStyle(e).backgroundColor));
        }
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    let worst = {ratio: 99}, words = 0;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, element = node.parentElement;
        if (!node.data.trim() || element.closest('[aria-hidden="true"], :disabled')) continue;
        if (!element.closest('.jp-OutputArea-output [role="group"]')) continue;
        words += 1;
        const behind = background(element);
        const ink = over(rgb(getComputedStyle(element).color), behind);
        const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < worst.ratio) worst = {ratio, text: node.data.trim()};
    }
    return {...worst, words};
}"""
