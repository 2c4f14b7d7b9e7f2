"""Schedules: handles of them, and what creates them. Loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbqueue.lazy_names import lazy_names
from nbqueue.moved_modules import attribute_of

_HOMES = {
    "Schedule": "nbqueue.client.schedules.schedule",
    "list_schedules": "nbqueue.client.schedules.schedule",
    "schedule_call": "nbqueue.client.schedules.new_schedule",
    "schedule_message": "nbqueue.client.schedules.new_schedule",
}

__all__ = ["Schedule", "list_schedules", "schedule_call", "schedule_message"]

_load = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    return _load(name) if name in _HOMES else attribute_of(__name__, name)


if TYPE_CHECKING:
    from nbqueue.client.schedules.new_schedule import schedule_call, schedule_message
    from nbqueue.client.schedules.schedule import Schedule, list_schedules
