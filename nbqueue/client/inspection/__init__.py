"""Looking into a store and acting on many tasks. A client that only submits loads none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue.lazy_names import lazy_names

_HOMES = {
    "AttemptQuery": "nbqueue.client.inspection.task_query",
    "BulkActions": "nbqueue.client.inspection.bulk_actions",
    "BulkResult": "nbqueue.client.inspection.task_filter",
    "Inspector": "nbqueue.client.inspection.inspector",
    "LimitInfo": "nbqueue.client.inspection.limits",
    "TaskQuery": "nbqueue.client.inspection.task_query",
    "client_html": "nbqueue.client.inspection.cards",
    "frames": "nbqueue.client.inspection.frames",
    "limits": "nbqueue.client.inspection.limits",
}

__all__ = [
    "AttemptQuery",
    "BulkActions",
    "BulkResult",
    "Inspector",
    "LimitInfo",
    "TaskQuery",
    "client_html",
    "frames",
    "limits",
]

__getattr__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from nbqueue.client.inspection import frames, limits
    from nbqueue.client.inspection.bulk_actions import BulkActions
    from nbqueue.client.inspection.cards import client_html
    from nbqueue.client.inspection.inspector import Inspector
    from nbqueue.client.inspection.limits import LimitInfo
    from nbqueue.client.inspection.task_filter import BulkResult
    from nbqueue.client.inspection.task_query import AttemptQuery, TaskQuery
