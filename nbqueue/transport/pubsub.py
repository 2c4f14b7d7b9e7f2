"""Connections on which messages arrive: subscriptions to channels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from nbqueue.transport import resp
from nbqueue.transport.nonblocking import ChannelMoved, NonblockingConnection, OnReply
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.transport.server import Server

MESSAGES: Final = (b"message", b"smessage")
SUBSCRIBED: Final = (b"subscribe", b"ssubscribe")


class MessageConnection(NonblockingConnection):
    """A connection on which messages arrive unasked, and replies have no callback."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._has_pinged = False

    def _awaits_reply(self) -> bool:
        return self._has_pinged

    def _send_ping(self) -> None:
        self._has_pinged = True
        self._queue(("PING",))

    def _queue(self, words: Sequence[Arg]) -> None:
        """Queue a command whose reply has no callback."""
        self._out += resp.pack(words)
        self.wants_write = True

    def _replies(self) -> Iterator[Any]:
        self._has_pinged = False  # anything that comes shows that the server lives
        while (reply := self._reader.gets()) is not resp.INCOMPLETE:
            if isinstance(reply, ReplyError):
                self._check_serving(reply)
            yield reply


class PubSubConnection(MessageConnection):
    """A connection that subscribes to channels.

    ``on_id`` gets the server's number for this connection, ``on_refused`` each channel that its
    user may not subscribe to, and the refusal.
    """

    def __init__(
        self,
        server: Server,
        channels: Sequence[str],
        on_message: OnReply,
        on_id: OnReply,
        on_refused: Callable[[str, ReplyError], None],
    ) -> None:
        super().__init__(server)
        self._on_message = on_message
        self._on_id = on_id
        self._on_refused = on_refused
        self._has_id = False
        self._asked_for: deque[str] = deque()
        """Channels whose subscriptions have no reply yet, in order."""
        self._following: set[str] = set()
        self._queue(("CLIENT", "ID"))
        for channel in channels:
            self.follow(channel)  # one by one: the user may lack the right to some

    def follow(self, channel: str) -> None:
        """Subscribe to one more channel; `flush` sends."""
        self._asked_for.append(channel)
        self._following.add(channel)
        self._queue((self._word(channel), channel))

    def unfollow(self, channel: str) -> None:
        """Unsubscribe from a channel; `flush` sends."""
        self._following.discard(channel)
        self._queue((self._word(channel, "UN"), channel))

    def _word(self, channel: str, prefix: str = "") -> str:
        """Return the command that subscribes to a channel, or with "UN" the one that ends it."""
        return f"{prefix}SUBSCRIBE"

    def _dispatch(self) -> None:
        for reply in self._replies():
            if isinstance(reply, list) and reply[0] in MESSAGES:
                self._on_message(reply)
            elif not self._has_id:  # the reply to the first command
                self._has_id = True
                if isinstance(reply, int):
                    self._on_id(reply)
            elif isinstance(reply, list) and reply[0] in SUBSCRIBED:
                self._asked_for.popleft()
            elif isinstance(reply, list) and reply[0] == b"sunsubscribe":
                if reply[1].decode("utf-8", "surrogateescape") in self._following:
                    raise ChannelMoved("a channel has moved to another node")
            elif isinstance(reply, ReplyError) and reply.reason == "NOPERM" and self._asked_for:
                self._on_refused(self._asked_for.popleft(), reply)
