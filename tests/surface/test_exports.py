"""The names that `import nbqueue` offers, and its cost."""

from __future__ import annotations

import concurrent.futures
import importlib
import inspect
import subprocess
import sys
from concurrent.futures import CancelledError, Executor, Future

import pytest

import nbqueue
from nbqueue import errors

BARE = {"nbqueue", "nbqueue.lazy_names", "nbqueue.moved_modules"}
HEAVY = {"pandas", "numpy", "ipywidgets", "IPython", "matplotlib", "redis", "google.protobuf"}
HEAVY |= {"cloudpickle", "asyncio", "click", "rich", "anywidget"}


def loaded_after(program: str) -> set[str]:
    """The modules of a fresh interpreter that ran ``program``."""
    code = f"import sys\n{program}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_name_is_there_and_says_what_it_is() -> None:
    for name in nbqueue.__all__:
        found = getattr(nbqueue, name)
        if name != "__version__":
            assert inspect.getdoc(found), name
            home = importlib.import_module(nbqueue._HOMES[name])
            assert getattr(home, name) is found


def test_the_lists_of_names_agree() -> None:
    assert set(nbqueue.__all__) == {*nbqueue._HOMES, "__version__"}
    assert set(nbqueue.__all__) <= set(dir(nbqueue))
    assert sorted(nbqueue.__all__) == nbqueue.__all__


def test_every_public_error_is_at_the_top() -> None:
    public = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert public <= set(nbqueue.__all__)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        nbqueue.conect  # noqa: B018


def test_import_loads_next_to_nothing() -> None:
    loaded = loaded_after("import nbqueue; assert nbqueue.__version__")
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("nbqueue")} == BARE


def test_errors_load_no_client() -> None:
    loaded = loaded_after("from nbqueue import SkipRetry, NbqueueError")
    assert not loaded & HEAVY


def test_the_client_loads_no_frames_and_no_widgets() -> None:
    loaded = loaded_after("from nbqueue import connect, Client, TaskFuture, TaskGroup")
    assert not loaded & {"pandas", "ipywidgets", "IPython", "matplotlib", "click", "rich"}


def test_the_client_is_an_executor_and_its_futures_are_futures() -> None:
    assert issubclass(nbqueue.Client, Executor)
    assert issubclass(nbqueue.TaskFuture, Future)
    assert issubclass(nbqueue.TaskCancelled, CancelledError)
    assert issubclass(nbqueue.TaskTimeout, TimeoutError)
    assert issubclass(nbqueue.TaskTimeout, concurrent.futures.TimeoutError)
    assert issubclass(nbqueue.StoreError, ConnectionError)
    assert issubclass(nbqueue.TaskNotFound, LookupError)


def test_what_tasks_raise_to_steer_is_not_caught_with_errors() -> None:
    for kind in (nbqueue.SkipRetry, nbqueue.RevokeTask, nbqueue.RetryLater):
        assert not issubclass(kind, nbqueue.NbqueueError)


def test_outside_of_a_worker_there_is_no_current_task() -> None:
    assert nbqueue.current_task() is None
