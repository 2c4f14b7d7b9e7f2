"""The rights that a user of the store needs, and what is said where one is missing."""

from __future__ import annotations

RULES = (
    "~asynq:* ~nbqueue:* &asynq:* &nbqueue:* &__redis__:invalidate +@all -@admin -@dangerous +info"
)
"""What ``ACL SETUSER`` has to grant."""


def missing_right(text: str) -> str:
    """What a server's refusal ``text`` for want of a right means for the user."""
    return (
        f"The store's user lacks a right: {text}. "
        f"This suffices: ACL SETUSER <name> {RULES} (see docs/scaling.md)"
    )
