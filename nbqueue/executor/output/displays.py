"""`display` inside a task, without a shell or kernel.

An object is displayed as the bundle of MIME types that IPython would request. matplotlib figures
become PNG images. IPython and matplotlib are used only if the task has imported them.
"""

from __future__ import annotations

import base64
import builtins
import io
import json
import os
import sys
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any, Final

from nbqueue.executor import pipe
from nbqueue.executor.output.task_reports import Reporting, running_task

_METHODS: Final = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/pdf": "_repr_pdf_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}

Bundle = dict[str, Any]


def display(
    *objs: Any,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    transient: Mapping[str, Any] | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    **kwargs: Any,
) -> Handle | None:
    """Show objects like `IPython.display.display`; in a task, add them to its output."""
    handle = None
    if display_id is not None and display_id is not False:
        handle = Handle(os.urandom(16).hex() if display_id is True else str(display_id))
    if clear:
        clear_output(wait=True)
    task = running_task()
    for obj in objs:
        if task is None:
            print(repr(obj))  # noqa: T201 (to the worker's log, as IPython without a shell does)
            continue
        data, more = (dict(obj), {}) if raw else bundle_of(obj)
        data = {
            mime: body
            for mime, body in data.items()
            if (include is None or mime in include) and (exclude is None or mime not in exclude)
        }
        if data:
            publish(task, data, {**more, **(metadata or {})}, handle.display_id if handle else "")
    return handle


class Handle:
    """Updates a display; returned by `display` with a ``display_id``."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or os.urandom(16).hex()

    def display(self, obj: Any, **kwargs: Any) -> None:
        display(obj, display_id=self.display_id, **kwargs)

    def update(self, obj: Any, **kwargs: Any) -> None:
        display(obj, display_id=self.display_id, update=True, **kwargs)

    def __repr__(self) -> str:
        return f"<Handle display_id={self.display_id}>"


def publish_display_data(
    data: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    transient: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Show a bundle of MIME types, like IPython's function of this name."""
    task = running_task()
    if task is None:
        print(data.get("text/plain", ""))  # noqa: T201 (as above)
        return
    publish(task, dict(data), dict(metadata or {}), str((transient or {}).get("display_id") or ""))


def clear_output(wait: bool = False) -> None:
    """Remove earlier output, like IPython's function of this name."""
    task = running_task()
    if task is not None:
        task.write(pipe.CLEAR, b"wait" if wait else b"")


def publish(task: Reporting, data: Bundle, metadata: Bundle, display_id: str = "") -> None:
    """Add a bundle to a task's output, or the reason for refusing it."""
    bundle: Bundle = {"data": _written(data), "metadata": metadata}
    if display_id:
        bundle["id"] = display_id
    try:
        body = json.dumps(bundle, separators=(",", ":"), default=str).encode()
    except (TypeError, ValueError, RecursionError) as error:
        why = f"it cannot be written as JSON: {error}"
    else:
        why = task.admit_display(len(body))
    if why:
        task.write(pipe.STDERR, f"[a display is left out: {why}]\n".encode("utf-8", "replace"))
    else:
        task.write(pipe.DISPLAY, body)


def _written(data: Bundle) -> Bundle:
    return {
        mime: base64.b64encode(body).decode() if isinstance(body, bytes) else body
        for mime, body in data.items()
    }


def bundle_of(obj: Any) -> tuple[Bundle, Bundle]:
    """Return the MIME bundle and metadata of an object.

    Empty if it showed itself.
    """
    figure = _module_value("matplotlib.figure", "Figure")
    if figure is not None and isinstance(obj, figure):
        return {"text/plain": repr(obj), "image/png": _png(obj)}, {}
    if not isinstance(obj, type):
        show = getattr(obj, "_ipython_display_", None)
        if callable(show):
            try:
                show()
                return {}, {}
            except NotImplementedError:
                pass
    data: Bundle = {"text/plain": _text(obj)}
    metadata: Bundle = {}
    if not isinstance(obj, type):
        _ask(obj, data, metadata)
    return data, metadata


def _ask(obj: Any, data: Bundle, metadata: Bundle) -> None:
    asked: list[tuple[str, Any, Bundle]]
    asked = [(mime, getattr(obj, name, None), {}) for mime, name in _METHODS.items()]
    asked.append(("", getattr(obj, "_repr_mimebundle_", None), {"include": None, "exclude": None}))
    for mime, method, kwargs in asked:
        if not callable(method):
            continue
        try:
            answer = method(**kwargs)
        except Exception:
            continue
        more: Any = {}
        if isinstance(answer, tuple) and len(answer) == 2:
            answer, more = answer
        if answer is None:
            continue
        if mime:
            data[mime] = answer
            if more:
                metadata[mime] = more
        elif isinstance(answer, Mapping):
            data.update(answer)
            metadata.update(more)


def _text(obj: Any) -> str:
    pretty = _module_value("IPython.lib.pretty", "pretty")
    try:
        return str(pretty(obj)) if pretty is not None else repr(obj)
    except Exception as error:
        return f"<{type(obj).__name__}, whose repr failed: {type(error).__name__}>"


def _png(figure: Any) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", bbox_inches="tight")
    return image.getvalue()


def _module_value(module: str, name: str) -> Any:
    """Return a value from a module that the task has imported."""
    return getattr(sys.modules.get(module), name, None)


# --- Changes to modules when a task imports them --------------------------------------------------


def patch_ipython(module: ModuleType) -> None:
    """Patch ``IPython.core.display_functions``, which only prints without a shell."""
    functions: Any = module
    functions.display = display
    functions.publish_display_data = publish_display_data
    functions.clear_output = clear_output
    functions.DisplayHandle = Handle


def patch_pyplot(module: ModuleType) -> None:
    """Patch ``matplotlib.pyplot`` to add shown figures to the output and close them."""
    pyplot: Any = module
    draw = pyplot.show

    def show(*args: Any, **kwargs: Any) -> None:
        if running_task() is None:
            draw(*args, **kwargs)
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            display(figure)
            pyplot.close(figure)

    pyplot.show = show


def add_builtin() -> None:
    """Add ``display`` as a builtin, as in a notebook."""
    builtins.display = display  # type: ignore[attr-defined]
