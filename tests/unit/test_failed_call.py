"""Failures as cards show them: the user's own line, the last frames, equal errors together."""

from __future__ import annotations

import traceback

import pytest

from nbqueue.views.failed_call import (
    ErrorKind,
    FailedCall,
    error_kind_parts,
    failure_parts,
    frames_of,
    user_frame,
)

INSTALLED = "/usr/lib/python3.11/site-packages/pandas/core/frame.py"
TEXT = f"""Traceback (most recent call last):
  File "/home/ada/load.py", line 3, in first
    raise OSError
OSError

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/tmp/ipykernel_1/2.py", line 1, in <module>
  File "C:\\\\work\\\\load.py", line 12, in load
    return data["price"]
           ~~~~^^^^^^^^^
  File "{INSTALLED}", line 4102, in __getitem__
    indexer = self.columns.get_loc(key)
KeyError: 'price'
"""


def test_the_frames_are_those_of_the_last_exception() -> None:
    frames = frames_of(TEXT)
    assert [frame.line for frame in frames] == [1, 12, 4102]
    assert [frame.source for frame in frames] == [
        "", 'return data["price"]', "indexer = self.columns.get_loc(key)",
    ]  # fmt: skip
    assert frames[0].text == "line 1 of a cell"
    own = user_frame(frames)
    assert own is not None
    assert own.text == 'load.py:12 in load: return data["price"]'


def test_a_real_traceback_is_read() -> None:
    try:
        int("x")
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    [frame] = frames_of(text)
    assert (frame.function, frame.source) == ("test_a_real_traceback_is_read", 'int("x")')


@pytest.mark.parametrize(
    "text", ["", "nonsense", 'File "a", line x', "Traceback (most recent call last):"]
)
def test_what_is_no_traceback_has_no_frames(text: str) -> None:
    assert frames_of(text) == []
    assert user_frame([]) is None


def test_numbers_of_lines_are_bounded() -> None:
    text = f'Traceback (most recent call last):\n  File "a.py", line {"9" * 5000}, in f\n'
    [frame] = frames_of(text)
    assert frame.line == 999_999_999


def test_a_failure_shows_the_call_the_error_and_the_users_line_and_escapes_them() -> None:
    html = "".join(failure_parts(FailedCall("KeyError: '<b>'", "load(path='<i>')", TEXT)))
    assert "load(path=&#39;&lt;i&gt;&#39;)" in html
    assert "KeyError: &#39;&lt;b&gt;&#39;" in html
    assert html.index("load.py:12 in load") < html.index("frame.py:4102 in __getitem__")
    assert html.count("<details>") == 1
    assert "<b>" not in html
    assert "<i>" not in html


def test_equal_errors_are_counted_with_the_arguments_of_each() -> None:
    kind = ErrorKind(FailedCall("KeyError: 'a'"), 7, [("task 0", "f(1)"), ("task 3", "")])
    html = "".join(error_kind_parts(kind))
    assert "7 × KeyError" in html
    assert "f(1)" in html
    assert "and 5 more" in html
    assert "<details>" not in html


def test_a_traceback_in_a_message_and_a_group_of_exceptions_keep_the_users_frame() -> None:
    nested = """Traceback (most recent call last):
  File "/home/ada/run.py", line 9, in run
    check(child)
RuntimeError: child failed:
Traceback (most recent call last):
  File "/fake/other.py", line 1, in other
    boom()
KeyError"""
    assert [frame.file for frame in frames_of(nested)] == ["/home/ada/run.py"]
    group = """  + Exception Group Traceback (most recent call last):
  |   File "/home/ada/run.py", line 3, in run
  |     raise ExceptionGroup("eg", [ValueError(1)])
  | ExceptionGroup: eg (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------"""
    [frame] = frames_of(group)
    assert frame.text == 'run.py:3 in run: raise ExceptionGroup("eg", [ValueError(1)])'
