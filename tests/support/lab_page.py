"""A JupyterLab page in headless Chromium, to run cells and read outputs.

The server listens on a free loopback port, with its own token and settings. All started processes
are ended by process id.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Return the program of the browser, if there is one."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    return None


class LabServer:
    """A Jupyter server on a folder."""

    def __init__(self, folder: Path, wait_until: Callable[..., Any]) -> None:
        self.token = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = open(folder / "server.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                f"--ServerApp.port={self.port}",
                "--ServerApp.ip=127.0.0.1",
                f"--IdentityProvider.token={self.token}",
                f"--ServerApp.root_dir={folder}",
                "--LabApp.expose_app_in_browser=True",
                "--LabApp.news_url=None",
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            cwd=folder,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            wait_until(self._answers, 60.0)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the Jupyter server ended"
        try:
            with urllib.request.urlopen(f"{self.url}/api?token={self.token}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for each in family:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                pass
        self._log.close()


class Lab:
    """One notebook in one page."""

    def __init__(self, server: LabServer, page: Any, folder: Path) -> None:
        self.page = page
        self._server = server
        # One file per page: a file has one kernel.
        self._path = folder / f"{secrets.token_hex(4)}.ipynb"

    def open(self, *cells: str, kernel: str = "nbqueue-test") -> None:
        """Open a notebook with these cells, without running them."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": kernel, "display_name": kernel}},
        )
        nbformat.write(notebook, self._path)
        self.visit()

    def visit(self) -> None:
        """Open the page, or return to it."""
        self.page.goto(
            f"{self._server.url}/lab/workspaces/w{secrets.token_hex(4)}/tree/{self._path.name}"
            f"?token={self._server.token}&reset"
        )
        self.page.wait_for_function(
            """() => {
                const lab = window.jupyterapp;
                const context = lab && lab.shell.currentWidget
                    && lab.shell.currentWidget.sessionContext;
                return !!(context && context.session && context.session.kernel
                    && context.session.kernel.status === 'idle');
            }""",
            timeout=60_000,
        )

    def leave(self) -> None:
        """Close the page; the kernel keeps running."""
        self.page.goto("about:blank")

    def command(self, name: str, **arguments: Any) -> None:
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }",
            [name, arguments],
        )

    def run_all(self) -> None:
        """Run all cells, and wait for them."""
        self.command("notebook:run-all-cells")

    def start_all(self) -> None:
        """Run all cells, without waiting."""
        self.page.evaluate(
            "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
        )

    def restart(self) -> None:
        """Restart the kernel, without running cells."""
        self.page.evaluate(
            "async () => { await window.jupyterapp.shell.currentWidget.sessionContext"
            ".session.kernel.restart(); }"
        )

    def save(self) -> dict[str, Any]:
        """Save, and return the content of the file."""
        self.command("docmanager:save")
        found: dict[str, Any] = json.loads(self._path.read_text())
        return found

    def dark(self) -> None:
        self.command("apputils:change-theme", theme="JupyterLab Dark")
        self.page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")

    # --- Reading the page ----------------------------------------------------------------------

    def outputs(self) -> Any:
        """What is seen of the outputs of all cells, as a locator: not stills that a view covers."""
        return self.page.locator(".jp-OutputArea-output").filter(visible=True)

    def wait_text(self, text: str, timeout: float = 30.0) -> None:
        """Wait until an output shows ``text``."""
        found = self.outputs().filter(has_text=text).first
        found.wait_for(state="visible", timeout=timeout * 1000)

    def button(self, label: str) -> Any:
        """Return the button whose accessible name is ``label``."""
        return self.page.get_by_role("button", name=label, exact=True)

    def text(self) -> str:
        """Return the text of all outputs."""
        return "\n".join(self.outputs().all_inner_texts())


def environment(folder: Path) -> dict[str, str]:
    """Return an environment for a Jupyter server that only uses ``folder``."""
    settings = folder / "lab"
    settings.mkdir(exist_ok=True)
    return {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(settings),
    }
