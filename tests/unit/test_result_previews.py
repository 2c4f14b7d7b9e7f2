"""Previews of results: what an executor makes of a value, and what a view takes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nbqueue.executor.output.result_previews import pack_preview
from nbqueue.tasks.result_preview import MOST_BYTES, ResultPreview

SMALL, LARGE = b"x" * 100, b"x" * 100_000
NOISE = np.random.default_rng(1).random((300, 500, 3))


@dataclasses.dataclass
class Fit:
    lr: float
    history: list[int]


class Html:
    def __init__(self, html: Any) -> None:
        self._html = html

    def _repr_html_(self) -> Any:
        return self._html


class Hostile:
    """Raises from whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __repr__(self) -> str:
        raise self._error

    @property
    def shape(self) -> Any:
        raise self._error


def preview(value: object, body: bytes = SMALL) -> ResultPreview:
    packed = pack_preview(value, body)
    assert 0 < len(packed) <= MOST_BYTES
    return ResultPreview.unpack(packed)


def figure(noise: bool = False) -> Figure:
    drawn = Figure(figsize=(6, 4))
    axes = drawn.subplots()
    axes.imshow(NOISE) if noise else axes.plot([1, 2, 3])
    return drawn


@pytest.mark.parametrize(
    "value", [None, True, 7, 1.5, "text", b"bytes", [1, [2, ("a", {"b": {3}})]], {}, ()]
)
def test_small_simple_values_have_no_preview(value: object) -> None:
    assert pack_preview(value, SMALL) == b""


@pytest.mark.parametrize("depth", [10_000])
def test_deep_ones_do(depth: int) -> None:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    assert preview(value).summary.startswith("list of 1: [[[")


@pytest.mark.parametrize(
    ("value", "summary"),
    [
        ("ab" * 60_000, "str of 120,000: 'abab"),
        (list(range(100_000)), "list of 100,000: [0, 1, 2,"),
        (pd.DataFrame({"a": range(5000), "b": 1.0}), "DataFrame 5,000 rows × 2 columns"),
        (pd.Series([1, 2], dtype="int64"), "Series shape=(2,) dtype=int64"),
        (np.zeros((1000, 3)), "ndarray shape=(1000, 3) dtype=float64"),
        (figure(), "Figure 6 × 4 inches"),
        (figure().axes[0], "Axes 6 × 4 inches"),
        (Image.fromarray((NOISE * 255).astype("uint8")), "Image 500 × 300 RGB"),
        (Fit(0.1, [1, 2]), "Fit(lr=0.1, history=[1, 2])"),
        (Html("<b>x</b>"), "Html object"),
        (Fit, "<class '"),
        ([Fit(0.1, [])], "list of 1: [Fit(lr=0.1, history=[])]"),
    ],
    ids=lambda value: value.split(" ")[0] if isinstance(value, str) else "",
)
def test_the_summary_says_what_it_is(value: object, summary: str) -> None:
    assert preview(value, LARGE).summary.startswith(summary)


def test_a_table_is_its_html_with_as_many_rows_as_fit() -> None:
    narrow = preview(pd.DataFrame(NOISE[:, :6, 0]))
    assert narrow.html.count("<tr") == 1 + 40 + 1
    wide = preview(pd.DataFrame({f"c{i}": ["<&>" * 15] * 90 for i in range(90)}))
    assert 0 < wide.html.count("<tr") < 40
    assert "<&>" not in wide.html
    assert "\n" in wide.text


@pytest.mark.parametrize("value", [figure(), figure(noise=True), Image.fromarray(NOISE[..., 0])])
def test_a_picture_is_made_to_fit(value: object) -> None:
    assert preview(value).png.startswith(b"\x89PNG")


def test_html_that_does_not_fit_is_left_out() -> None:
    assert preview(Html("<b>x</b>")).html == "<b>x</b>"
    assert preview(Html("x" * 30_000)) == ResultPreview("Html object")
    assert preview(Html(7)) == ResultPreview("Html object")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_in_the_class_of_a_value_is_dropped(error: BaseException) -> None:
    assert pack_preview(Hostile(error), SMALL) == b""


def test_text_of_any_kind_fits() -> None:
    wide = preview(Fit(0.1, [10**6] * 100_000))
    assert len(wide.text) == 4_000
    assert wide.summary.endswith("…")
    worst = ResultPreview("\x00" * 500, "\ud800\x1b" * 9_000, "h" * 17_000, b"\x89PNG" * 3_000)
    assert len(worst.pack()) <= MOST_BYTES


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"summary":7}',
        b'{"summary":"x","png":"!"}',
        b'{"summary":"x","png":"R0lGODlh"}',
        b"[" * 15_000,
        json.dumps({"summary": "x", "text": "x" * MOST_BYTES}).encode(),
    ],
)
def test_a_strangers_preview_is_refused_with_value_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ResultPreview.unpack(packed)


def test_no_library_is_imported_for_it() -> None:
    code = (
        "import sys; from nbqueue.executor.output.result_previews import pack_preview\n"
        "class Shown:\n    def _repr_html_(self): return '<b>x</b>'\n"
        "assert pack_preview(Shown(), b'x')\n"
        "print(*({'numpy', 'pandas', 'matplotlib', 'PIL', 'IPython'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
