"""Times in live views: in the zone of the browser, unless they are those of a schedule."""

from __future__ import annotations

from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nbqueue.views import html as h

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

MOMENT_MS = 1_782_878_400_000  # 2026-07-01 04:00 UTC
DRAW = """async ([source, html]) => {
    const url = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    const view = (await import(url)).default;
    const model = {get: () => html, send: () => {}, on: () => {}, off: () => {}};
    view.render({model, el: document.body});
    return [...document.querySelectorAll("time")].map(each => [each.textContent, each.title]);
}"""


@pytest.mark.parametrize(
    ("zone", "shown", "title"),
    [
        ("Europe/Paris", "2026-07-01 06:00:00 CEST", "2026-07-01 06:00:00 CEST (+0200)"),
        ("Asia/Kathmandu", "2026-07-01 09:45:00 GMT+5:45", "2026-07-01 09:45:00 GMT+5:45 (+0545)"),
        ("America/Sao_Paulo", "2026-07-01 01:00:00 GMT-3", "2026-07-01 01:00:00 GMT-3 (-0300)"),
    ],
)
def test_times_are_in_the_zone_of_the_browser(
    browser: Any, zone: str, shown: str, title: str
) -> None:
    context = browser.new_context(timezone_id=zone)
    try:
        page = context.new_page()
        now_ms = page.evaluate("Date.now()")
        html = h.join(
            [
                h.time(MOMENT_MS),
                h.time(MOMENT_MS, tz=ZoneInfo("Asia/Tokyo")),
                h.time(now_ms, now_ms),
                h.time(MOMENT_MS, MOMENT_MS),
            ]
        )
        source = resources.files("nbqueue.notebook") / "static" / "view.js"
        drawn = page.evaluate(DRAW, [source.read_text("utf-8"), str(html)])
    finally:
        context.close()
    assert drawn[0] == [shown, title]
    assert drawn[1][0] == "2026-07-01 13:00:00 JST"
    # Without the date if that is the browser's today.
    assert drawn[2][0] == drawn[2][1][11:].rpartition(" (")[0]
    assert drawn[3][0] == shown
