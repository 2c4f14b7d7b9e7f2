"""Why tasks do not run: read from the store, decided, and shown. Loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue.lazy_names import lazy_names

_HOMES = {
    "ObstacleWatch": "nbqueue.client.obstacles.obstacle_watch",
    "wait_for_workers": "nbqueue.client.obstacles.serving_workers",
}

__all__ = ["ObstacleWatch", "wait_for_workers"]

__getattr__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from nbqueue.client.obstacles.obstacle_watch import ObstacleWatch
    from nbqueue.client.obstacles.serving_workers import wait_for_workers
