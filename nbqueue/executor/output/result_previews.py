"""Make previews of results, so that views need not load the results themselves.

A preview uses only libraries that the task has imported, and its errors are dropped: the task has
succeeded already.
"""

from __future__ import annotations

import io
import reprlib
import sys
from collections.abc import Iterable
from typing import Any, Final

from nbqueue.runtime.buffers import LARGE, Body
from nbqueue.tasks.result_preview import ResultPreview

SIMPLE: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose small values views load without a preview."""

_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})
_DEEPEST = 20
_MOST_REPR = 8_000_000
"""The size of a pickled value above which its ``repr`` is not asked for."""
_MOST_TEXT = 4_000
_MOST_SUMMARY = 160
_MOST_HTML = 17_000
_MOST_PNG = 14_000
_MOST_PIXELS = 50_000_000
_RESOLUTION = 90
"""Dots per inch of a figure."""
_SIDES = (640, 440, 300, 200, 120)
"""The longest sides of a picture in pixels, until it fits."""
_COLOURS = 64
_OCTREE = 2
"""`PIL.Image.Quantize.FASTOCTREE`: fast, and for transparent images as well."""
_TABLES = ((40, 16), (20, 12), (10, 8), (6, 4))
"""The rows and columns of a DataFrame that are shown, until they fit."""

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 40
_short.maxstring = _short.maxother = _MOST_TEXT


def pack_preview(value: object, body: Body) -> bytes:
    """Return the packed preview of a result; empty for simple values, and if there is none.

    ``body`` is the value's pickle.
    """
    try:
        if len(body) <= LARGE and _is_simple(value, _DEEPEST):
            return b""
        return _preview_of(value, len(body)).pack()
    except BaseException:  # from the value's class: the task has succeeded all the same
        return b""


def _is_simple(value: object, deepest: int) -> bool:
    kind = type(value)
    if kind in SIMPLE:
        return True
    if kind not in _CONTAINERS or not deepest:
        return False
    members: Any = value
    if SIMPLE.issuperset(map(type, members)) and kind is not dict:
        return True
    inner: Iterable[Any] = (*members, *members.values()) if kind is dict else members
    return all(_is_simple(each, deepest - 1) for each in inner)


def _preview_of(value: Any, size: int) -> ResultPreview:
    kind = type(value)
    if isinstance(value, type):
        return _with_text(repr(value))
    if kind in SIMPLE or kind in _CONTAINERS:
        amount = f" of {len(value):,}" if kind not in SIMPLE or kind in (str, bytes) else ""
        return _with_text(_short.repr(value), f"{kind.__name__}{amount}: ")
    picture = _picture_of(value)
    if picture is not None:
        return picture
    shape = _shape_of(value)
    dtype = getattr(value, "dtype", None) if shape is not None else None
    if shape and dtype is not None:
        summary = f"{kind.__name__} shape={shape} dtype={dtype}"
        return ResultPreview(summary, _text_of(value), _html_of(value))
    if shape is not None and len(shape) == 2:
        summary = f"{kind.__name__} {shape[0]:,} rows × {shape[1]:,} columns"
        return ResultPreview(summary, _table_text(value), _html_of(value))
    html = _html_of(value)
    if size > _MOST_REPR and shape is None:
        return ResultPreview(f"{kind.__name__} of {size:,} bytes", html=html)
    return _of_object(value)._replace(html=html)


def _of_object(value: Any) -> ResultPreview:
    if getattr(type(value), "__repr__", None) is object.__repr__:
        return ResultPreview(f"{type(value).__name__} object")
    return _with_text(_text_of(value))


def _with_text(text: str, before: str = "") -> ResultPreview:
    line = " ".join(text.split())
    is_whole = line == text and len(line) <= _MOST_SUMMARY
    if is_whole:
        return ResultPreview(before + line)
    return ResultPreview(before + line[: _MOST_SUMMARY - 1].rstrip() + "…", text[:_MOST_TEXT])


def _text_of(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def _shape_of(value: Any) -> tuple[int, ...] | None:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(each, int) for each in shape):
        return tuple(shape)
    return None


# --- Tables and other HTML ---------------------------------------------------------------------


def _is_frame(value: Any) -> bool:
    frame = _loaded("pandas", "DataFrame")
    return isinstance(frame, type) and isinstance(value, frame)


def _table_text(value: Any) -> str:
    return str(value.to_string(max_rows=10, max_cols=8)) if _is_frame(value) else _text_of(value)


def _html_of(value: Any) -> str:
    """Return the HTML by which a notebook shows a value, or "" if it has none that fits."""
    if _is_frame(value):
        tables = (
            value.to_html(max_rows=rows, max_cols=columns, notebook=True, show_dimensions=False)
            for rows, columns in _TABLES
        )
        return next((html for html in map(_compact, tables) if _fits(html)), "")
    html: Any = None
    if not _loaded_kind("plotly.basedatatypes", "BaseFigure", value):  # its HTML needs scripts
        html = _asked(value, "_repr_html_") or _asked(value, "_repr_svg_")
    if html is None:
        bundle = _asked(value, "_repr_mimebundle_")
        html = bundle.get("text/html") if isinstance(bundle, dict) else None
    return html if isinstance(html, str) and _fits(html) else ""


def _compact(html: str) -> str:
    return "\n".join(line.lstrip() for line in html.split("\n"))


def _fits(html: str) -> bool:
    return len(html.encode("utf-8", "replace")) <= _MOST_HTML


def _asked(value: Any, name: str) -> Any:
    method = getattr(value, name, None)
    if not callable(method):
        return None
    try:
        found = method()
    except Exception:
        return None
    return found[0] if isinstance(found, tuple) and found else found


# --- Pictures ----------------------------------------------------------------------------------


def _picture_of(value: Any) -> ResultPreview | None:
    """Return the preview of a figure, of a part of one, or of an image."""
    name = type(value).__name__
    each: Any
    for each in (value, getattr(value, "figure", None)):
        if _loaded_kind("matplotlib.figure", "Figure", each):
            wide, high = each.get_size_inches()
            return ResultPreview(f"{name} {wide:g} × {high:g} inches", png=_drawn(each))
    if _loaded_kind("PIL.Image", "Image", value):
        summary = f"{name} {value.width:,} × {value.height:,} {value.mode}"
        is_small = value.width * value.height <= _MOST_PIXELS
        return ResultPreview(summary, png=_shrunk(value) if is_small else b"")
    png = _asked(value, "_repr_png_")
    if isinstance(png, bytes):
        return _of_object(value)._replace(png=_fitting(png))
    return None


def _drawn(figure: Any) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_RESOLUTION, bbox_inches="tight")
    return _fitting(image.getvalue())


def _fitting(png: bytes) -> bytes:
    """Return a PNG image, made small enough; empty if that cannot be done."""
    read: Any = _loaded("PIL.Image", "open")
    if read is not None:
        return _shrunk(read(io.BytesIO(png)))
    return png if len(png) <= _MOST_PNG else b""


def _shrunk(image: Any) -> bytes:
    """Return an image as a PNG image with a palette, which takes a third of the bytes."""
    image = image.convert("RGBA" if "A" in image.mode or image.mode == "P" else "RGB")
    for side in _SIDES:
        if max(image.size) > side:
            image.thumbnail((side, side))
        out = io.BytesIO()
        image.quantize(_COLOURS, method=_OCTREE).save(out, "PNG")
        if out.tell() <= _MOST_PNG:
            return out.getvalue()
    return b""


def _loaded(module: str, name: str) -> Any:
    """Return a value from a module that the task has imported, or None."""
    return getattr(sys.modules.get(module), name, None)


def _loaded_kind(module: str, name: str, value: Any) -> bool:
    kind = _loaded(module, name)
    return isinstance(kind, type) and isinstance(value, kind)
