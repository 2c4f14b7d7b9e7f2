"""How handles show themselves. The one place where the client knows of the notebook, and only when
something is shown."""

from __future__ import annotations

from typing import Any


def show_future(future: Any) -> None:
    """Show a future's card here, live until its task ends."""
    from nbqueue.notebook.cards import FutureCard
    from nbqueue.notebook.live import show

    show(FutureCard(future))


def show_group(group: Any) -> None:
    """Show a group's card here, live until its tasks have ended."""
    from nbqueue.notebook.bars import GroupCard
    from nbqueue.notebook.live import show

    show(GroupCard(group))


def future_bundle(future: Any) -> dict[str, str]:
    """A future as it is now, in the forms that need no kernel."""
    from nbqueue.notebook.cards import FutureCard

    return _bundle(FutureCard(future))


def group_bundle(group: Any) -> dict[str, str]:
    """A group as it is now, in the forms that need no kernel."""
    from nbqueue.notebook.bars import GroupCard

    return _bundle(GroupCard(group))


def _bundle(view: Any) -> dict[str, str]:
    return {"text/plain": view.text(), "text/html": view.html(live=False)}
