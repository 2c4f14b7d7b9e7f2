"""Lua scripts and calls of them, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from nbqueue.runtime.buffers import Body, Piece, parts_of
from nbqueue.transport import resp
from nbqueue.transport.resp import Arg as Arg  # for those that build calls

T = TypeVar("T")
NEEDS_FULL: Final = b"NEEDSFULL"
"""Reply of a script that leaves the call to its full variant.

The script did nothing.
"""


@dataclass(frozen=True)
class Script:
    """A Lua script, with its digest and the names of its keys and arguments."""

    name: str
    source: bytes
    sha: bytes
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: tuple[str, ...]
    """Names of the arguments of each further key; may be empty.

    They follow once for each further key.
    """
    has_further_keys: bool = False
    """True if further keys follow the named ones, mostly keys of tasks."""
    full: str = ""
    """Name of the script for all kinds of tasks, or empty.

    It is set for a script that is faster and handles simple tasks only.
    """


class Staged(NamedTuple):
    """A hash with large values, written in the transaction of the script.

    Lua reads each byte that passes through it, which takes 2 ms a megabyte each time; values that
    are staged do not pass through it.
    """

    key: str
    values: Sequence[tuple[str, Body]]
    stays: bool = False
    """True if ``key`` is a task, whose fields remain after the script.

    They remain unless the script deletes them. Other staged hashes are deleted after the script.
    """


@dataclass(slots=True)
class Command(Generic[T]):
    """One call of a script, ready to be sent."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Arg]
    read: Callable[[Any], T]
    staged: Sequence[Staged] = ()
    full_script: Script | None = None
    """The script to run instead if the reply is `NEEDS_FULL`."""
    by_source: bool = False
    """True to send the source of the script, for a server that keeps forgetting it."""

    @property
    def full(self) -> Command[T] | None:
        """This call, of the full script; None if this script handles everything."""
        if self.full_script is None:
            return None
        return Command(self.full_script, self.keys, self.args, self.read)

    def words(self) -> tuple[Arg, ...]:
        """The words of the Redis command that runs the script, by its digest or its source."""
        if self.by_source:
            return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.args)
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


def with_source(script: Script, data: bytes) -> bytes:
    """Return a packed call of ``script`` by its digest as one by its source."""
    by_sha = resp.pack(("EVALSHA", script.sha)).partition(b"\r\n")[2]
    by_source = resp.pack(("EVAL", script.source)).partition(b"\r\n")[2]
    return data.replace(by_sha, by_source, 1)


def pack_staged(command: Command[Any]) -> list[Piece]:
    """Return a command and its staged values as one transaction, in pieces.

    It has `staged_replies` replies, among which `staged_reply` finds the script's.
    """
    pieces: list[Piece] = [resp.pack(("MULTI",))]
    for staged in command.staged:
        pieces += _pack_hash(staged)
    last = resp.pack(command.words())
    keys = [staged.key for staged in command.staged if not staged.stays]
    if keys:
        last += resp.pack(("DEL", *keys))
    pieces.append(last + resp.pack(("EXEC",)))
    return pieces


def staged_replies(command: Command[Any]) -> int:
    """Return how many replies a transaction of `pack_staged` has."""
    return len(command.staged) + 3 + (not all(staged.stays for staged in command.staged))


def _pack_hash(staged: Staged) -> list[Piece]:
    head = resp.pack(("HSET", staged.key))
    pieces: list[Piece] = []
    text = b"*%d%b" % (2 + 2 * len(staged.values), head[head.index(b"\r") :])
    for name, value in staged.values:
        text += b"$%d\r\n%b\r\n$%d\r\n" % (len(name), name.encode(), len(value))
        pieces.append(text)
        pieces += [piece for piece in parts_of(value) if len(piece)]
        text = b"\r\n"
    pieces.append(text)
    return pieces


def staged_reply(command: Command[Any], replies: Sequence[Any]) -> Any:
    """Return the script's reply, or the refusal that kept it from running."""
    *queued, results = replies
    if isinstance(results, resp.ReplyError):
        # Discarded because of an earlier refusal, which is the reason: for example, out of memory.
        return next((each for each in queued if isinstance(each, resp.ReplyError)), results)
    return results[len(command.staged)]
