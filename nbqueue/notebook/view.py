"""`View`: content of a live display, as plain text and as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nbqueue.printable import printable

if TYPE_CHECKING:
    from nbqueue.notebook.live.shown import Shown


class View:
    """Content of a display. Subclasses define what it shows and what its buttons do.

    All methods return quickly: one thread draws every view of a kernel.
    """

    ticks = False
    """True if it changes with time alone, such as a view that counts seconds."""

    subject: Any = None
    """The handle that it shows, if it shows one."""

    def lines(self) -> list[str]:
        """Return the current lines of text. They may contain text from the store."""
        raise NotImplementedError

    def text(self) -> str:
        """Return the current plain text, printable."""
        return "\n".join(map(printable, self.lines()))

    def html(self, live: bool) -> Markup:
        """Return the current HTML.

        ``live`` HTML is shown while the kernel runs, and has buttons. Other HTML is a still, which
        is saved: if there is more to come, it names its time and the line of code that shows it
        live.
        """
        raise NotImplementedError

    @property
    def is_final(self) -> bool:
        """True if it will not change any more."""
        raise NotImplementedError

    @property
    def acts_at_end(self) -> bool:
        """True if it is final, and its live HTML has buttons that its still has not."""
        return False

    def end_notice(self) -> tuple[str, str] | None:
        """Return title and text of the notification of its end; None for a view without a bell."""
        return None

    def act(self, action: str, args: dict[str, Any]) -> None:
        """Do what a pressed button or changed field asks for. Exceptions are shown in the view."""

    def began(self, shown: Shown) -> None:
        """Start to follow changes, and call ``shown.changed()`` at each."""

    def ended(self, shown: Shown) -> None:
        """Stop following changes: it is shown no longer."""

    def is_seen(self, seen: bool) -> None:
        """Note whether a page shows it. Work that only serves an unseen view may stop."""
