"""`Tab`: the base class of the tabs of a panel. A tab draws a model, and passes actions on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.table_model import CsvFile, TableModel
from nbqueue.errors import NbqueueError

_IDLE_SECONDS = 3.0


@dataclass
class Context(Scope):
    """The store of a panel, its options, and its line of messages.

    ``redraw`` has the panel drawn again, ``save`` gives a file to the page, and ``message`` is the
    result of the last action.
    """

    redraw: Callable[[], None] = lambda: None
    save: Callable[[CsvFile], None] = lambda file: None
    message: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)


class Tab:
    """One tab. It reads its models when it is drawn, at most every ``rest`` seconds."""

    name = ""
    rest = 0.4

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tables: Mapping[str, TableModel[Any]] = {}
        """The models that are drawn, by the names that their buttons send back."""
        self._read_at = 0.0
        self._is_stale = True

    def stale(self) -> None:
        """Read again when it is next drawn, after the rest."""
        self._is_stale = True

    def refresh(self) -> None:
        """Read again when it is next drawn, whenever that is."""
        self._is_stale = True
        self._read_at = 0.0

    def html(self, live: bool) -> Markup:
        """Return the tab, with data that is as fresh as the rest allows."""
        now = time.monotonic()
        # Programs in Go write no events, so it is read now and then without one.
        waited = now - self._read_at
        if waited >= (self.rest if self._is_stale else max(_IDLE_SECONDS, self.rest)):
            self._is_stale = False
            self.read()
            self._read_at = time.monotonic()
        return self.body(live and not self.context.read_only, live)

    def read(self) -> None:
        """Read the models from the store."""
        for model in self.tables.values():
            model.read()

    def body(self, acts: bool, live: bool) -> Markup:
        """Return the models as HTML.

        ``acts``: with buttons that change tasks. ``live``: with buttons that change the view.
        """
        raise NotImplementedError

    def act(self, action: str, args: dict[str, Any]) -> None:
        """Do what a button of the tab asks for."""
        model = self.tables.get(str(args.get("table", "")))
        if model is None:
            return
        if action == "page":
            model.turn(int(args.get("by", 0)))
        elif action == "sort":
            model.sort(str(args.get("column")))
        elif action == "filter":
            model.filter(**{str(args.get("name")): str(args.get("value", ""))})
        elif action == "select":
            model.select([str(args.get("id"))], is_on=bool(args.get("value")))
        elif action == "select-page":
            model.select([row.key for row in model.rows], is_on=bool(args.get("value")))
        elif action == "act":
            self.context.message = self._act(model, args)
        elif action == "csv":
            threading.Thread(target=self._save, args=(model,), daemon=True).start()

    @staticmethod
    def _act(model: TableModel[Any], args: dict[str, Any]) -> str:
        """Act on the row that is named, on the selected rows, or on all."""
        on = args.get("on")
        if on == "selected":
            keys: set[str] | None = set(model.selected)
        else:
            keys = None if on == "all" else {str(on)}
        return model.act(str(args.get("what")), keys)

    def _save(self, model: TableModel[Any]) -> None:
        """Save a table as CSV. It may take seconds, so it runs in a thread."""
        try:
            file = model.csv()
        except NbqueueError as error:
            self.context.message = str(error)
        else:
            self.context.save(file)
            self.context.message = file.note
        self.context.redraw()
