"""JupyterLab in Chromium, for tests of its displays.

Without a browser they are skipped locally, and fail in CI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_folder import jupyter_folder
from lab_page import CHROMIUM_ARGUMENTS, Lab, LabServer, chromium, environment
from waits import wait_until


# Playwright keeps an event loop in the thread, which other modules must not find.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = chromium()
    if program is None:
        if os.environ.get("CI"):
            raise AssertionError("these tests need a Chromium on PATH")
        pytest.skip("there is no Chromium on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("lab")
    with jupyter_folder(folder), pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def server(jupyter: Path) -> Iterator[LabServer]:
    found = LabServer(jupyter, wait_until)
    yield found
    found.close()


@pytest.fixture
def lab(browser: Any, server: LabServer, jupyter: Path) -> Iterator[Lab]:
    """A JupyterLab with an empty notebook folder; what asks for anything off loopback fails."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    refused: list[str] = []

    def route(route: Any) -> None:
        if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    context.route("**/*", route)
    found = Lab(server, context.new_page(), jupyter)
    yield found
    context.close()
    assert not refused, refused
