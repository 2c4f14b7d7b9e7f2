"""A real Jupyter kernel, with all messages that it sends."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

WIDGET = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A kernel and the messages of its IOPub channel."""

    def __init__(self, folder: Path) -> None:
        self._manager = KernelManager(kernel_name="nbqueue-test")
        self._manager.start_kernel(cwd=str(folder))
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self.messages: list[dict[str, Any]] = []

    def run(
        self, code: str, timeout: float = 40.0, *, allow_error: bool = False
    ) -> list[dict[str, Any]]:
        """Run a cell and return its messages. Raises if it failed, unless it may."""
        first = len(self.messages)
        sent = self._client.execute(code)
        limit = time.monotonic() + timeout
        while True:
            message = self._next(limit)
            is_ours = message["parent_header"].get("msg_id") == sent
            if message["msg_type"] == "error" and is_ours and not allow_error:
                raise AssertionError("\n".join(message["content"]["traceback"]))
            if (
                is_ours
                and message["msg_type"] == "status"
                and message["content"]["execution_state"] == "idle"
            ):
                return self.messages[first:]

    def complete(self, code: str) -> list[str]:
        """Return the Tab completions at the end of ``code``."""
        reply = self._client.complete(code, reply=True, timeout=30)
        found: list[str] = reply["content"]["matches"]
        return found

    def ask_about(self, name: str) -> str:
        """Return what ``name?`` shows, as plain text."""
        reply = self._client.execute(f"{name}?", reply=True, timeout=30)
        return "".join(page["data"]["text/plain"] for page in reply["content"]["payload"])

    def restart(self) -> None:
        """Restart the kernel in a new process."""
        self._manager.restart_kernel(now=False)
        self._client.wait_for_ready(timeout=60)

    def listen_until(self, fact: Any, timeout: float = 40.0) -> None:
        """Receive messages until ``fact(message)`` is true for one."""
        limit = time.monotonic() + timeout
        while not fact(self._next(limit)):
            pass

    def has_said(self, fact: Any, timeout: float = 40.0) -> None:
        """Receive messages until ``fact(message)`` is true for one, including earlier ones."""
        if not any(map(fact, self.messages)):
            self.listen_until(fact, timeout)

    def listen_until_idle(self) -> None:
        """Receive messages until the running cell has ended."""
        self.listen_until(
            lambda m: m["msg_type"] == "status" and m["content"]["execution_state"] == "idle"
        )

    def _next(self, limit: float) -> dict[str, Any]:
        message: dict[str, Any] = self._client.get_iopub_msg(
            timeout=max(0.01, limit - time.monotonic())
        )
        self.messages.append(message)
        return message

    def interrupt(self) -> None:
        """Interrupt the kernel, like the stop button."""
        self._manager.interrupt_kernel()

    def execute(self, code: str) -> None:
        """Run a cell without waiting."""
        self._client.execute(code)

    def model_of(self, display: dict[str, Any]) -> str:
        """Return the id of the model whose view takes the place of a display."""
        assert WIDGET not in display["data"]
        name = re.search('<div data-nbqueue-view="(.+?)"', display["data"]["text/html"])
        assert name is not None
        opened = [m["content"] for m in self.messages if m["msg_type"] == "comm_open"]
        [found] = [
            each["comm_id"] for each in opened if each["data"]["state"].get("still") == name[1]
        ]
        return str(found)

    def send_to_widget(self, model_id: str, content: dict[str, Any]) -> None:
        """Send a message to a widget, like its front end."""
        data = {"method": "custom", "content": content}
        message = self._client.session.msg("comm_msg", {"comm_id": model_id, "data": data})
        self._client.shell_channel.send(message)

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def displays(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the contents of all display messages, including updates, in order."""
    kinds = ("display_data", "update_display_data")
    return [m["content"] for m in messages if m["msg_type"] in kinds]


def printed(messages: list[dict[str, Any]]) -> str:
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
