"""Find the variable, argument or attribute that cannot be pickled, and give advice.

Runs only after pickling failed. It tests the parts of the failed object one by one and follows the
first that fails as well, until no part fails on its own: that is the cause.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbqueue.calls.pickling import object_parts, pickle_hints
from nbqueue.calls.pickling.pickler import Trial
from nbqueue.calls.readable_names import clean_text, short_name, type_name
from nbqueue.errors import CannotPickle

_MAX_DEPTH = 40


class _Found(NamedTuple):
    culprit: object
    steps: list[object_parts.Step]
    error: Exception


def explain_function(fn: Callable[..., Any], error: Exception) -> CannotPickle:
    """Return the error for a function that cannot be sent."""
    subject = object_parts.noun(fn) if object_parts.is_code(fn) else f"{short_name(fn)}()"
    return _explain(fn, subject, subject, error, pickle_hints.TO_WORKER)


def explain_arguments(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    callee: str,
    fn: Callable[..., Any] | None,
    error: Exception,
) -> CannotPickle:
    """Return the error for arguments that cannot be sent."""
    trial = Trial()
    of = f" of {callee}()" if callee else ""
    names = _parameter_names(fn, len(args))
    for index, value in enumerate(args):
        if trial.error_of(value) is not None:
            name = f" ({names[index]!r})" if index < len(names) else ""
            label = f"argument {index + 1}{name}"
            return _explain(value, label + of, label, error, pickle_hints.TO_WORKER)
    for key, value in kwargs.items():
        if trial.error_of(value) is not None:
            label = f"argument {key!r}"
            return _explain(value, label + of, label, error, pickle_hints.TO_WORKER)
    return _explain(
        (args, kwargs), f"the arguments{of}", "arguments", error, pickle_hints.TO_WORKER
    )


def explain_result(value: object, callee: str, error: Exception) -> CannotPickle:
    """Return the error for a result that cannot be sent back."""
    subject = f"the result of {callee}()" if callee else "the result"
    return _explain(value, subject, subject, error, pickle_hints.BACK)


def with_article(noun: str) -> str:
    """Return ``noun`` with "a" or "an" before it."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _explain(
    obj: object, subject: str, label: str, error: Exception, direction: str
) -> CannotPickle:
    found = _find(obj, error)
    text, names_culprit = sentence(obj, subject, found.steps)
    if not names_culprit:
        text += f", {with_article(type_name(type(found.culprit)))}"
    path = (label, *(step.label for step in found.steps))
    text += f", which cannot be sent {direction}"
    if isinstance(found.error.__cause__, RecursionError):
        text += ": it is nested too deeply to be pickled"
        return CannotPickle(clean_text(text, 4000), path)
    reason = pickle_hints.own_reason(found.error)
    if reason:
        text += f" ({reason})"
    return CannotPickle(
        clean_text(f"{text}: {pickle_hints.hint_for(found.culprit, direction)}", 4000), path
    )


def sentence(obj: object, subject: str, found: Sequence[object_parts.Step]) -> tuple[str, bool]:
    """Join the steps; also return whether the text ends with a noun."""
    text, is_subject, names_value = subject, True, object_parts.is_code(obj)
    if names_value and subject != object_parts.noun(
        obj
    ):  # an argument or result that is itself a function
        text += f", {object_parts.noun(obj)}"
        is_subject = False
    for step in found:
        if step.is_verb:
            text += f" {step.text}" if is_subject else f", which {step.text}"
        else:
            text += f": {step.text}"
        is_subject = False
        names_value = step.names_value
    return text, names_value


def _find(obj: object, error: Exception) -> _Found:
    steps: list[object_parts.Step] = []
    passed = {id(obj)}
    trial = Trial()
    while len(steps) < _MAX_DEPTH and not isinstance(error.__cause__, RecursionError):
        failing = _first_failing(obj, passed, trial)
        if failing is None:
            break
        step, obj, error = failing
        passed.add(id(obj))
        steps.append(step)
    return _Found(obj, steps, error)


def _first_failing(
    obj: object, passed: set[int], trial: Trial
) -> tuple[object_parts.Step, object, Exception] | None:
    for step, value in object_parts.parts_of(obj):
        if id(value) in passed:  # a reference back to an object on the path
            continue
        error = trial.error_of(value)
        if error is not None:
            return step, value, error
    return None


def _parameter_names(fn: Callable[..., Any] | None, count: int) -> list[str]:
    """Return the names of the parameters that take the first ``count`` positional arguments."""
    if fn is None:
        return []
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names.extend([f"*{parameter.name}"] * (count - len(names)))
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return names[:count]
