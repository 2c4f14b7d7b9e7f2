"""Signatures that list the options of tasks, for Shift-Tab and Tab in Jupyter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import nbqueue
from nbqueue.client.client import Client
from nbqueue.client.inspection.task_filter import make_filter
from nbqueue.client.inspection.where_keywords import WHERE_DEFAULTS
from nbqueue.client.schedules.entries import SETTINGS
from nbqueue.client.schedules.schedule import Schedule
from nbqueue.client.submitting.option_keywords import OptionKeywords, ScheduleKeywords
from nbqueue.client.submitting.submitter import Submitter, TaskFunction
from nbqueue.options import TaskOptions

OPTIONS = [each.name for each in fields(TaskOptions)]


def keywords(method: Callable[..., Any]) -> list[str]:
    """The names of a method's keyword-only parameters."""
    parameters = inspect.signature(method).parameters.values()
    assert not any(each.kind == each.VAR_KEYWORD for each in parameters)
    return [each.name for each in parameters if each.kind == each.KEYWORD_ONLY]


def test_type_checkers_know_every_option_and_setting() -> None:
    assert list(OptionKeywords.__annotations__) == OPTIONS
    assert set(ScheduleKeywords.__annotations__) == {*OPTIONS, *SETTINGS}


@pytest.mark.parametrize(
    "method",
    [
        Client.options, Client.enqueue, Client.task,
        Submitter.options, Submitter.enqueue, TaskFunction.options,
    ],
)  # fmt: skip
def test_methods_list_the_options(method: Callable[..., Any]) -> None:
    assert keywords(method) == OPTIONS
    assert inspect.signature(method).parameters["codec"].default == "pickle"


@pytest.mark.parametrize(
    "method",
    [Client.schedule, Client.schedule_message, Submitter.schedule, TaskFunction.schedule],
)
def test_methods_list_the_settings_of_a_schedule(method: Callable[..., Any]) -> None:
    assert set(keywords(method)) - {"args", "kwargs"} == {*OPTIONS, *SETTINGS}


def test_an_update_lists_what_it_can_change() -> None:
    assert {"id", *keywords(Schedule.update)} >= set(SETTINGS)


def test_actions_list_their_filters() -> None:
    known = {*keywords(make_filter), "queue", "state"}
    assert set(WHERE_DEFAULTS) == known
    for name in ("retry", "run", "cancel", "archive", "delete", "reschedule"):
        assert known <= set(keywords(getattr(Client, name)))
        assert known <= set(keywords(getattr(nbqueue.Inspector, name)))


@pytest.mark.parametrize("method", [Client.options, Submitter.options])
def test_the_docstring_describes_each_option_with_its_default(method: Callable[..., Any]) -> None:
    texts = dict(re.findall(r"^(\w+): (.*(?:\n    .*)*)", inspect.getdoc(method) or "", re.M))
    assert set(OPTIONS) <= set(texts)
    for name in OPTIONS:
        assert "Default" in texts[name], name


def test_tab_completes_options_and_public_names() -> None:
    completer = pytest.importorskip("IPython.core.completer")
    shell = completer.IPCompleter(namespace={"nbqueue": nbqueue, "q": Client.__new__(Client)})

    def completed(text: str) -> set[str]:
        with completer.provisionalcompleter():
            return {each.text for each in shell.completions(text, len(text))}

    assert completed("nbqueue.") == set(nbqueue.__all__) - {"__version__"}
    assert {"retry=", "retry_on=", "retention="} <= completed("q.options(re")
    assert {"tz=", "retry="} <= completed("q.schedule(print, '@daily', ")
