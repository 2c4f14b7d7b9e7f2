"""Stored pickles that name old module paths load, and new ones name paths known before."""

from __future__ import annotations

import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import nbqueue
from nbqueue import moved_modules
from nbqueue.broker.reads.models import DailyStats
from nbqueue.calls.argument_digest import call_digest
from nbqueue.client.futures.group_state import Counts
from nbqueue.client.inspection.limits import LimitInfo
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.client.results.output import Output
from nbqueue.client.results.reported_progress import Bar, Progress
from nbqueue.limits import Limit
from nbqueue.tasks.retry_policy import Policy, WithPolicy

GOLDEN = Path(__file__).parents[1] / "compat" / "golden_calls"
BEFORE = json.loads((GOLDEN / "names_before.json").read_text())
DIGESTS = json.loads((GOLDEN / "digests_before.json").read_text())
"""Digests of calls of `len` with one argument, made before the modules moved."""


@pytest.mark.parametrize("old", moved_modules.MOVED)
def test_an_old_path_has_the_names_of_the_module(old: str) -> None:
    assert old in BEFORE["modules"]
    new = importlib.import_module(moved_modules.MOVED[old])
    alias = importlib.import_module(old)
    name = next(name for name in vars(new) if not name.startswith("_"))
    assert getattr(alias, name) is getattr(new, name)
    with pytest.raises(AttributeError):
        _ = alias.no_such_name


def test_a_path_that_there_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nbqueue.client.nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = importlib.import_module("nbqueue.client.futures").nonsense


@pytest.mark.parametrize(
    "made",
    [BulkResult, LimitInfo, Output, Counts, DailyStats, Bar, Progress, Limit, Policy, WithPolicy]
    + [getattr(nbqueue, name) for name in nbqueue.__all__ if name[0] != "_"],
)
def test_what_results_may_hold_is_pickled_under_a_path_known_before(made: Any) -> None:
    assert made.__module__ in BEFORE["modules"]
    assert pickle.loads(pickle.dumps(made)) is made


@pytest.mark.parametrize("path", DIGESTS["names"])
def test_the_digest_of_an_argument_that_was_moved_is_as_before(path: str) -> None:
    module, _, name = path.partition(":")
    made = getattr(importlib.import_module(module), name)
    assert call_digest(len, (made,), {}) == DIGESTS["names"][path]


@pytest.mark.parametrize("source", DIGESTS["values"])
def test_the_digest_of_a_value_of_a_moved_class_is_as_before(source: str) -> None:
    value = eval(source, vars(nbqueue))
    assert call_digest(len, (value,), {}) == DIGESTS["values"][source]
