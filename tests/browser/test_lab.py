"""What a person sees in JupyterLab: displays that live, buttons that act, files that last."""

from __future__ import annotations

from typing import Any

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
def fail(number):
    if number % 2:
        raise ValueError(f"odd number {number}")
    return number
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


def bundles(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        output["data"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if "data" in output
    ]


def test_a_future_lives_and_is_saved_settled(lab: Lab) -> None:
    lab.open(SETUP, "f = q.options(name='train').submit(nap, 3)\nf")
    lab.run_all()
    lab.wait_text("active")
    bar = lab.page.get_by_role("progressbar").first
    assert bar.get_attribute("aria-label")
    lab.wait_text("slept 3")
    lab.wait_text("completed")
    # The widget may show the end a moment before its display is settled.
    wait_until(lambda: all(WIDGET not in bundle for bundle in bundles(lab.save())))
    saved = bundles(lab.save())
    assert any("slept 3" in str(bundle.get("text/html")) for bundle in saved)
    # After a restart and a reload it is still there, and no widget is missed.
    lab.restart()
    lab.visit()
    lab.wait_text("slept 3")
    assert "model not found" not in lab.page.content()


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


def test_a_display_goes_on_after_the_page_was_left(lab: Lab) -> None:
    lab.open(SETUP, "g = q.map(nap, [0.5] * 30)\ng")
    lab.run_all()
    lab.wait_text("of 30")
    lab.save()
    lab.leave()
    lab.visit()
    lab.wait_text("(100%)", timeout=60)


def test_the_panel_pages_filters_and_acts(lab: Lab) -> None:
    lab.open(
        SETUP,
        "q.inspector.pause('later')\n"
        "g = q.options(queue='later').map(nap, [1] * 120)\n"
        "q.options(queue='later').submit(fail, 2)\n"
        "q.panel(queues=['later'])",
    )
    lab.run_all()
    lab.wait_text("1 queues, 121 tasks")
    lab.button("Show the 121 pending tasks of later").click()
    lab.wait_text("1–50 of 121")
    lab.button("The next page").click()
    lab.wait_text("51–100 of 121")
    field = lab.page.get_by_label("Type", exact=True)
    field.fill("fail")
    field.press("Enter")
    lab.wait_text("1–1 that fit")
    lab.page.get_by_label("Select this page").check()
    lab.wait_text("1 selected")
    button = lab.button("Delete the 1 selected tasks")
    button.click()
    button.click()
    lab.wait_text("1 deleted")
    lab.page.get_by_role("tab", name="Queues").click()
    lab.wait_text("1 queues, 120 tasks")
    lab.page.get_by_role("tab", name="Workers").click()
    lab.wait_text("slots in use")


def test_a_panel_that_is_read_only_has_no_button_that_acts(lab: Lab) -> None:
    lab.open(SETUP, "q.submit(nap, 0).result()\nq.panel(read_only=True)")
    lab.run_all()
    lab.wait_text("read only")
    assert lab.button("Pause default").count() == 0
    lab.page.get_by_role("tab", name="Tasks").click()
    lab.wait_text("in default")
    assert lab.page.get_by_text("Delete").count() == 0


def test_words_can_be_read_in_the_dark_theme(lab: Lab) -> None:
    lab.open(SETUP, "g = q.map(fail, range(6))\ng")
    lab.dark()
    lab.run_all()
    lab.wait_text("(100%)")
    view = lab.outputs().filter(has_text="(100%)").first
    worst = view.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


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
    let worst = {ratio: 99};
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, element = node.parentElement;
        if (!node.data.trim() || element.closest('[aria-hidden="true"]')) continue;
        const behind = background(element);
        const ink = over(rgb(getComputedStyle(element).color), behind);
        const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < worst.ratio) worst = {ratio, text: node.data.trim()};
    }
    return worst;
}"""
