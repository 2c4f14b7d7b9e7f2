"""The widget that draws HTML in a page and sends back what is pressed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

OnMessage = Callable[[Any, dict[str, Any], Any], None]


def make_widget(html: Markup, on_message: OnMessage, *, still: str, live: bool) -> Any:
    """Return a widget that draws ``html``, or None where anywidget is not installed.

    It draws in place of the elements of the page whose ``data-nbqueue-view`` is ``still``; if that
    is empty, where it is displayed.
    """
    made = _widget_class()
    if made is None:
        return None
    widget = made(html=str(html), still=still, live=live)
    widget.on_msg(on_message)
    return widget


@cache
def _widget_class() -> Any:
    # Loaded late: they are heavy, and a script that shows nothing needs neither.
    try:
        import anywidget
        import traitlets
    except ImportError:
        return None
    static = resources.files("nbqueue.notebook") / "static"

    class LiveHTML(anywidget.AnyWidget):  # type: ignore[misc]
        _esm = (static / "view.js").read_text("utf-8")
        _css = (static / "view.css").read_text("utf-8")
        html = traitlets.Unicode().tag(sync=True)
        # The number of the last action of each page that this HTML takes into account.
        done = traitlets.Dict().tag(sync=True)
        # The name of the elements that it takes the place of.
        still = traitlets.Unicode().tag(sync=True)
        # The number of the last still that was published.
        saved = traitlets.Int(0).tag(sync=True)
        # Whether it may still change. Pages report only then.
        live = traitlets.Bool(False).tag(sync=True)
        # Whether pages notify of the end; the bell of a page changes it.
        bell = traitlets.Bool(False).tag(sync=True)

    return LiveHTML
