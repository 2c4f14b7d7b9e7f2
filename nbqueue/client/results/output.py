"""`Output`: what one attempt of a task printed, logged and displayed."""

from __future__ import annotations

import base64
import binascii
import queue
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from markupsafe import Markup

from nbqueue.broker.reads import task_outputs
from nbqueue.broker.reads.task_outputs import Entry, display_owner, read_output
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.checks import is_whole
from nbqueue.client.live.task_feed import News, follow
from nbqueue.errors import SignatureError, UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.printable import shown
from nbqueue.views.ansi import (
    TerminalStream,
    ansi_html,
    collapse,
    for_terminal,
    without_colours,
)
from nbqueue.views.format import BAD, INK, SHADE, number, size
from nbqueue.views.html import CODE, NOTHING, element, join, pale
from nbqueue.wire import fields
from nbqueue.wire.decoding import json_value
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.client.futures.future import TaskFuture
    from nbqueue.client.session import Session

_TEXT = frozenset({task_outputs.STDOUT, task_outputs.STDERR})
_NOTE = "note"


@pickled_as("nbqueue.client.output")
class Cut(NamedTuple):
    """The missing text between the first 100 kB and the last 900 kB of an attempt."""

    lines: int
    bytes: int

    def __str__(self) -> str:
        return f"… {number(self.lines)} lines ({size(self.bytes)}) cut …"


@pickled_as("nbqueue.client.output")
class Display(NamedTuple):
    """A rich display: data by MIME type, as in Jupyter's messages, and metadata.

    Images are base64 text.
    """

    data: dict[str, Any]
    metadata: dict[str, Any]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.data, self.metadata


@pickled_as("nbqueue.client.output")
class Part(NamedTuple):
    """A part of the output, of one kind: ``stdout``, ``stderr``, ``display`` or ``note``."""

    kind: str
    text: str
    display: Display | None = None


@pickled_as("nbqueue.client.output")
class Output:
    """Printed text, logs and displays of one attempt, in order; see `TaskFuture.output`.

    As the last line of a cell it is replayed there. Text that a progress bar overwrote is left out,
    as in a terminal. When printed, it keeps its colours and loses all other control sequences;
    ``text``, ``stdout`` and ``stderr`` have them as the task wrote them.
    """

    def __init__(self, task_id: str, attempt: int, parts: Sequence[Part], cut: Cut | None) -> None:
        self.task_id = task_id
        self.attempt = attempt
        """The number of the attempt; 0 if there is no output."""
        self.parts = tuple(parts)
        self.cut = cut
        """The text that is missing, or None."""

    @property
    def text(self) -> str:
        """The text of stdout and stderr, in order, with notes where something is missing."""
        return self._text(task_outputs.STDOUT, task_outputs.STDERR, _NOTE)

    @property
    def stdout(self) -> str:
        """The text of stdout."""
        return self._text(task_outputs.STDOUT)

    @property
    def stderr(self) -> str:
        """The text of stderr, which includes logging and warnings."""
        return self._text(task_outputs.STDERR)

    @property
    def displays(self) -> list[Display]:
        """The rich displays whose signature is valid."""
        return [part.display for part in self.parts if part.display is not None]

    def _text(self, *kinds: str) -> str:
        return collapse("".join(part.text for part in self.parts if part.kind in kinds))

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        return for_terminal(self.text)

    def __repr__(self) -> str:
        if not self.parts:
            return f"<Output of task {self.task_id}: nothing>"
        shown = [
            _plain(part.display) if part.display is not None else part.text for part in self.parts
        ]
        return for_terminal(collapse("".join(shown)).rstrip("\n"))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        if not self.parts:
            return str(pale("nothing was put out"))
        return str(join(_display_html(each) or _text_html(each) for each in _lines(self.parts)))

    def _ipython_display_(self) -> None:
        """Replay the output: each display in its own form, with the text between them."""
        # Only IPython calls this method, so IPython is installed.
        from importlib import import_module

        display = import_module("IPython.display").display
        for part in _lines(self.parts) or [Part(_NOTE, "nothing was put out\n")]:
            if part.display is not None:
                display(part.display.data, metadata=part.display.metadata, raw=True)
            else:
                plain = without_colours(collapse(part.text)).rstrip("\n")
                display({"text/plain": plain, "text/html": _text_html(part)}, raw=True)


def read_task_output(
    session: Session, queue: str, task_id: str, attempt: int | None = None
) -> Output:
    """Read the output of one attempt from the store; see `TaskFuture.output`."""
    if attempt is not None and not is_whole(attempt, 1):
        raise UsageError(
            f"attempt={shown(attempt)} is not the number of an attempt, of which the first is 1"
        )
    after = (0, 0) if attempt is None else (attempt, 0)
    task = stored_keys(queue).task(task_id)
    broker = session.broker
    state, last = broker.call(("HGET", task, fields.STATE), ("HGET", task, fields.OUTPUT), on=queue)
    # If the task has written nothing yet, stored output is that of an earlier one with its id.
    is_of_another = state is not None and last is None
    entries = [] if is_of_another else read_output(broker, queue, task_id, after)
    return make_output(session.keyring, task_id, entries, attempt)


def make_output(
    keyring: Keyring, task_id: str, entries: Iterable[Entry], attempt: int | None = None
) -> Output:
    """Combine the entries of one attempt, by default the last one."""
    entries = list(entries)
    if attempt is None:
        attempt = entries[-1].attempt if entries else 0
    builder = _PartBuilder(keyring, task_id)
    for entry in entries:
        if entry.attempt == attempt:
            builder.add(entry)
    return builder.output(attempt)


class _PartBuilder:
    """Turns entries of the output stream into parts."""

    def __init__(self, keyring: Keyring, task_id: str) -> None:
        self._keyring = keyring
        self._task_id = task_id
        self._parts: list[Part] = []
        self._places: dict[str, int] = {}
        self._kind = ""
        self._chunks: list[bytes] = []
        self._bytes = self._lines = 0
        self._cut_bytes = self._cut_lines = 0
        self._will_clear = False

    def add(self, entry: Entry) -> None:
        if entry.kind == task_outputs.CLEAR:
            self._will_clear = True
            if entry.data != b"wait":
                self._clear()
            return
        if self._will_clear:
            self._clear()
        if entry.before > self._bytes:
            missing = Cut(max(entry.lines - self._lines, 0), entry.before - self._bytes)
            self._cut_lines += missing.lines
            self._cut_bytes += missing.bytes
            self._note(str(missing))
            self._bytes, self._lines = entry.before, entry.lines
        if entry.kind in _TEXT:
            if entry.kind != self._kind:
                self._end_text()
                self._kind = entry.kind
            self._chunks.append(entry.data)
            self._bytes = entry.before + len(entry.data)
            self._lines = entry.lines + entry.data.count(b"\n")
        elif entry.kind == task_outputs.DISPLAY:
            self._add_display(entry)

    def output(self, attempt: int) -> Output:
        self._end_text()
        cut = Cut(self._cut_lines, self._cut_bytes) if self._cut_bytes else None
        return Output(self._task_id, attempt, self._parts, cut)

    def _clear(self) -> None:
        self._kind, self._chunks, self._will_clear = "", [], False
        self._parts.clear()
        self._places.clear()

    def _end_text(self) -> None:
        if self._chunks:
            text = b"".join(self._chunks).decode("utf-8", "replace")
            self._parts.append(Part(self._kind, text))
        self._kind, self._chunks = "", []

    def _note(self, text: str) -> None:
        has_begun_line = bool(self._chunks) and not self._chunks[-1].endswith(b"\n")
        self._end_text()
        self._parts.append(Part(_NOTE, f"{chr(10) if has_begun_line else ''}{text}\n"))

    def _add_display(self, entry: Entry) -> None:
        try:
            owner = display_owner(self._task_id, entry.attempt)
            envelope = self._keyring.verify_result(entry.data, owner)
            if envelope.kind != payloads.DISPLAY:
                raise SignatureError("it is not a display")
            value = json_value(bytes(envelope.body))
            display = Display(dict(value["data"]), dict(value.get("metadata") or {}))
            place_id = str(value.get("id") or "")
        except SignatureError:
            self._note("[a display is not shown: it was not signed with the key]")
            return
        except (ValueError, KeyError, TypeError):
            self._note("[a display is not shown: it cannot be read]")
            return
        self._end_text()
        part = Part(task_outputs.DISPLAY, "", display)
        if place_id and place_id in self._places:
            self._parts[self._places[place_id]] = part
            return
        if place_id:
            self._places[place_id] = len(self._parts)
        self._parts.append(part)


def follow_output(session: Session, future: TaskFuture[Any]) -> None:
    """Print the output of a task as it comes, until the task has ended.

    Displays become text.
    """
    news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
    stop = follow(session, future.queue, future.id, news.put)
    future.add_done_callback(lambda _: news.put(None))
    printer = _Printer(session.keyring, future.id)
    try:
        while (came := news.get()) is not None:
            printer.print(came.entries)
        # The last entries are in the store before the end of the task is.
        printer.print(read_output(session.broker, future.queue, future.id, printer.seen))
    finally:
        printer.end()
        stop()


class _Printer:
    """Prints the entries of a task's output as they come."""

    def __init__(self, keyring: Keyring, task_id: str) -> None:
        self._keyring = keyring
        self._task_id = task_id
        self._streams = {kind: TerminalStream() for kind in _TEXT}
        self.seen = (0, 0)
        """Attempt and number of the last printed entry."""

    def print(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if (entry.attempt, entry.number) <= self.seen:
                continue
            self.seen = entry.attempt, entry.number
            if entry.kind in _TEXT:
                _stream_of(entry.kind).write(self._streams[entry.kind].feed(entry.data))
            else:
                alone = entry._replace(before=0, lines=0)
                sys.stdout.write(repr(make_output(self._keyring, self._task_id, [alone])) + "\n")
        _flush()

    def end(self) -> None:
        for kind, stream in self._streams.items():
            _stream_of(kind).write(stream.end())
        _flush()


def _stream_of(kind: str) -> TextIO:
    return sys.stderr if kind == task_outputs.STDERR else sys.stdout


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def write_text(output: Output) -> None:
    """Write an output to stdout and stderr, as the task wrote it."""
    for part in output.parts:
        stream = _stream_of(part.kind)
        text = _plain(part.display) if part.display is not None else collapse(part.text)
        stream.write(for_terminal(text))
    _flush()


def _lines(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that are not empty."""
    return [part for part in parts if part.text or part.display is not None]


def _plain(display: Display) -> str:
    text = display.data.get("text/plain") or ", ".join(display.data)
    return f"{text}\n"


def _text_html(part: Part) -> Markup:
    edge = f"border-left:3px solid {BAD};" if part.kind == task_outputs.STDERR else ""
    ground = SHADE if part.kind == _NOTE else "transparent"
    style = (
        f"margin:0;padding:2px 8px;{edge}color:{INK};background:{ground};font-family:{CODE};"
        "font-size:12px;line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere"
    )
    return element("pre", ansi_html(collapse(part.text).rstrip("\n")), style=style)


def _display_html(part: Part) -> Markup:
    """Return a verified display as HTML; empty for text."""
    if part.display is None:
        return NOTHING
    data = part.display.data
    for mime in ("text/html", "image/svg+xml"):
        if isinstance(data.get(mime), str):
            return element("div", Markup(data[mime]))  # noqa: S704 (signed by a worker)
    for mime in ("image/png", "image/jpeg"):
        if _is_base64(data.get(mime)):
            name = str(data.get("text/plain", "picture"))
            source = f"data:{mime};base64,{data[mime]}"
            return element("div", element("img", alt=name, src=source))
    return _text_html(Part(task_outputs.STDOUT, _plain(part.display)))


def _is_base64(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(
            base64.b64decode(text.replace("\n", ""), validate=True)
        )
    except (binascii.Error, ValueError):
        return False
