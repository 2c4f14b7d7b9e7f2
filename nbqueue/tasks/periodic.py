"""Periodic messages that a provider returns, as plain data.

A provider is user code, so it runs in an executor, which has no key and no connection. Its messages
go to the supervisor as JSON, and the supervisor changes the schedules.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.names import known_names, not_among
from nbqueue.options import TaskOptions

PROVIDER_TYPE: Final = "nbqueue.provider "
"""The prefix of the type of messages that call a provider.

The provider's name follows.
"""

Provider = Callable[[], "Iterable[Periodic]"]

_SETTINGS = ("tz", "missed", "overlap", "jitter")
_OPTIONS = ("queue", "retry", "timeout", "retention", "headers")


@pickled_as("nbqueue.executor.periodic")
class Periodic:
    """A message to enqueue whenever ``spec`` is due; providers return these.

    ``payload`` is as for `Client.enqueue`. ``options``: ``queue``, ``retry``, ``timeout``,
    ``retention``, ``headers``, with Asynq's defaults; and ``tz``, ``missed``, ``overlap``,
    ``jitter`` as for `Client.schedule`.

    >>> nbqueue.Periodic("@hourly", "email:digest", {"to": "all"}, queue="low")

    Raises `UsageError` for invalid values.
    """

    def __init__(self, spec: str, type: str, payload: Any = None, **options: Any) -> None:
        for name in options:
            if name not in _SETTINGS + _OPTIONS:
                known = known_names(name, _OPTIONS + _SETTINGS)
                raise UsageError(f"{name!r} is no option of a Periodic{known}")
        if not isinstance(type, str) or not type.strip():
            raise UsageError(f"type={type!r} is empty: it must be text, such as 'email:deliver'")
        from nbqueue.cron import parse_spec, zone_of

        zone = zone_of(options.get("tz", "UTC"))
        parse_spec(spec, zone)
        task = TaskOptions().merged({k: v for k, v in options.items() if k in _OPTIONS})
        if options.get("missed", "once") not in ("skip", "once", "all"):
            raise not_among("missed", options["missed"], ("skip", "once", "all"))
        timeout = 1800 if task.timeout is None else math.ceil(parse_duration(task.timeout))
        self._data = {
            "spec": spec,
            "tz": zone.key,
            "type": type,
            "payload": base64.b64encode(_encoded(payload)).decode(),
            "queue": task.queue,
            "retry": 25 if task.retry is None else task.retry,
            "timeout": max(timeout, 1),
            "retention": math.ceil(parse_duration(task.retention or 0)),
            "headers": dict(task.headers),
            "missed": options.get("missed", "once"),
            "overlap": bool(options.get("overlap", True)),
            "jitter_ms": round(parse_duration(options.get("jitter", 0), "jitter") * 1000),
        }

    def __repr__(self) -> str:
        return f"<Periodic {self._data['spec']!r} {self._data['type']}>"


def _encoded(payload: Any) -> bytes:
    if payload is None:
        return b""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    try:
        if isinstance(payload, str):
            return payload.encode()
        return json.dumps(
            payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the payload cannot be written as JSON ({error})") from None


def call_provider(provider: Provider) -> bytes:
    """Call ``provider``; return its periodic messages as a JSON list of objects.

    Raises whatever the provider raises, and `UsageError` if it returns anything but `Periodic`s.
    """
    wanted = provider()
    found = []
    for each in wanted if isinstance(wanted, Iterable) else (wanted,):
        if not isinstance(each, Periodic):
            raise UsageError(f"a provider returns a list of nbqueue.Periodic, and not {each!r}")
        found.append(each._data)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def digest_of(data: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that are equal for equal data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:16]
