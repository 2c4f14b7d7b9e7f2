"""Store URLs: parse them, and show them without passwords.

Nothing here opens a connection or reads the disk; `nbqueue.store.default_store` finds the default.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import platformdirs

from nbqueue.errors import InvalidURL
from nbqueue.names import did_you_mean
from nbqueue.printable import shown

_FORMS = {
    "redis": "redis://[user:password@]host[:port][/db]",
    "rediss": "rediss://[user:password@]host[:port][/db][?ssl_ca_certs=path]",
    "unix": "unix://[user:password@]/path/to/socket[?db=n]",
    "redis+sentinel": "redis+sentinel://[user:password@]host1:26379,host2:26379/master[/db]",
    "rediss+sentinel": "rediss+sentinel://[user:password@]host1:26379,host2:26379/master[/db]",
    "redis-sentinel": "redis-sentinel://[:sentinel_password@]host1:26379,host2:26379?master=name",
    "redis+cluster": "redis+cluster://[user:password@]host1:7000,host2:7001",
    "rediss+cluster": "rediss+cluster://[user:password@]host1:7000,host2:7001[?ssl_ca_certs=path]",
    "embedded": "embedded:///absolute/path, embedded://./path, embedded://name or embedded://default",
}
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_ASYNQ_SENTINEL = "redis-sentinel"
"""The scheme of Asynq's own URIs, which are read as `_SENTINEL`."""
_DEFAULT_PORTS = dict.fromkeys((*_SENTINEL, _ASYNQ_SENTINEL), 26379)
_CLUSTER = ("redis+cluster", "rediss+cluster")
_TLS_OPTIONS = (
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
)
_SENTINEL_OPTIONS = ("db", "sentinel_username", "sentinel_password", "sentinel_tls", *_TLS_OPTIONS)
_OPTIONS = {
    "redis": ("db",),
    "rediss": ("db", *_TLS_OPTIONS),
    "unix": ("db",),
    **dict.fromkeys(_SENTINEL, _SENTINEL_OPTIONS),
    _ASYNQ_SENTINEL: ("master", "db"),
    "redis+cluster": (),
    "rediss+cluster": _TLS_OPTIONS,
    "embedded": (),
}
_CERT_REQS = ("none", "optional", "required")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# A DNS name, plus underscores, which Docker and Kubernetes names have.
_HOST_NAME = re.compile(r"[^\s\x00-\x20\"#%<>?@\[\\\]^`{|}:,/]+")
_STORE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HIDDEN = "***"
# Checked before the parts after the host, so that no message quotes the half of a password that
# looks like a port, a database or an option.
_STRAY_AT = "there is a @ after the host (is a sign in the password not %-encoded?)"


@dataclass(frozen=True, repr=False)
class StoreURL:
    """A parsed store URL. Its ``str`` and ``repr`` never show a password.

    ``hosts`` is empty for ``unix`` and ``embedded``, and has the Sentinels for ``redis+sentinel``;
    ``path`` is the socket of a ``unix`` URL and the directory of an ``embedded`` one, always
    absolute, and None for the others. ``tls`` is empty without TLS. ``sentinel_tls``: whether the
    Sentinels use TLS; None if they do as the servers do.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    db: int = 0
    username: str | None = None
    password: str | None = None
    path: str | None = None
    master: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    tls: tuple[tuple[str, str | bool], ...] = ()
    sentinel_tls: bool | None = None

    @property
    def is_sentinel(self) -> bool:
        """True if ``hosts`` are Sentinels, which know the server."""
        return self.scheme in _SENTINEL

    @property
    def uses_tls(self) -> bool:
        """True if connections to the server use TLS."""
        return self.scheme.startswith("rediss")

    @property
    def has_password(self) -> bool:
        """True if it holds a password of any kind."""
        return self.password is not None or self.sentinel_password is not None

    @property
    def is_cluster(self) -> bool:
        """True if ``hosts`` are nodes of a Redis Cluster."""
        return self.scheme in _CLUSTER

    @property
    def redacted(self) -> str:
        """The URL with ``***`` for each password. For people: messages, logs, pictures."""
        return self._write(lambda secret: _HIDDEN)

    @property
    def place(self) -> str:
        """The URL as people write it: a named embedded store by its name, home as ``~``.

        Without passwords, and without the name of the user, so that it can be saved in a notebook.
        """
        if self.scheme != "embedded" or self.path is None:
            return self.redacted
        folder = Path(self.path)
        if folder.parent == stores_folder() and _STORE_NAME.fullmatch(folder.name):
            return f"embedded://{folder.name}"
        home = os.path.expanduser("~")
        is_at_home = home != os.sep and self.path.startswith(home + os.sep)
        path = "~" + self.path[len(home) :] if is_at_home else self.path
        return f"embedded://{quote(path, safe='/~')}"

    @property
    def text(self) -> str:
        """The complete URL, *with* its passwords: ``parse_url(url.text) == url``.

        For passing to another process; never for showing.
        """
        return self._write(lambda secret: quote(secret, safe=""))

    def __str__(self) -> str:
        return self.redacted

    def __repr__(self) -> str:
        return f"StoreURL({self.redacted!r})"

    def _write(self, secret: Callable[[str], str]) -> str:
        user = ""
        if self.password is not None:
            user = f"{quote(self.username or '', safe='')}:{secret(self.password)}@"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        options: list[tuple[str, str]] = []
        place = quote(self.path or "", safe="/~")
        if self.scheme in ("redis", "rediss"):
            place = f"/{self.db}"
        elif self.is_sentinel:
            place = f"/{quote(self.master or '', safe='')}/{self.db}"
            if self.sentinel_username is not None:
                options.append(("sentinel_username", quote(self.sentinel_username, safe="")))
            if self.sentinel_password is not None:
                options.append(("sentinel_password", secret(self.sentinel_password)))
            if self.sentinel_tls is not None:
                options.append(("sentinel_tls", str(self.sentinel_tls).lower()))
        elif self.scheme == "unix" and self.db:
            options.append(("db", str(self.db)))
        for name, value in self.tls:
            written = str(value).lower() if isinstance(value, bool) else quote(value, safe="/~")
            options.append((name, written))
        query = "?" + "&".join(f"{name}={value}" for name, value in options) if options else ""
        return f"{self.scheme}://{user}{hosts}{place}{query}"


def parse_url(text: str) -> StoreURL:
    """Parse a store URL.

    User, password, master and paths may be percent-encoded; a password with ``@``, ``/``, ``?`` or
    ``%`` must be. The default port is 6379 (26379 for Sentinel), the default database 0.

    >>> parse_url("redis://:secret@cache.example/3")
    StoreURL('redis://:***@cache.example:6379/3')

    Raises InvalidURL, which shows the accepted form and hides the password.
    """
    if not isinstance(text, str):
        raise InvalidURL(f"a store URL is text, not {type(text).__name__}. {_all_forms()}")
    source = text.strip()
    scheme, separator, rest = source.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _FORMS:
        question = did_you_mean(scheme, _FORMS) if separator else ""
        raise InvalidURL(
            f"{shown(redact(source))} is not a store URL: it begins with no known scheme"
            f"{f': {question}' if question else '.'} {_all_forms()}"
        )
    try:
        if _CONTROL.search(source):
            raise _Reason("it contains a control character")
        return _Reader(scheme, rest).read()
    except _Reason as reason:
        raise InvalidURL(
            f"{shown(redact(source))} is not a store URL: {reason}. The form is {_FORMS[scheme]}"
        ) from None


def redact(text: str) -> str:
    """Hide possible passwords in text that may not be a valid URL.

    It may hide too much: a password may contain characters that end a part of a URL.
    """
    text = re.sub(r":(?!//)(.*)@", f":{_HIDDEN}@", text, flags=re.DOTALL)
    text = re.sub(r"://[^:@/]*@", f"://{_HIDDEN}@", text)
    return re.sub(r"([?&]([^=&]*)=)([^&]*)", _hide_unless_known, text)


def _hide_unless_known(option: re.Match[str]) -> str:
    # Shows known options only: the name of a password option may be mistyped.
    known = option[2] in ("db", "master", "sentinel_tls") or option[2] in _TLS_OPTIONS
    return option[0] if known else option[1] + _HIDDEN


class _Reason(Exception):
    """The reason why a text is not a store URL. Never contains a password."""


class _Reader:
    """Parses the part of a URL after ``://``."""

    def __init__(self, scheme: str, rest: str) -> None:
        self.scheme = scheme
        self.rest, _, self.query = rest.partition("?")
        self.options: dict[str, str] = {}

    def read(self) -> StoreURL:
        if "@" in self.query:
            raise _Reason(_STRAY_AT)
        self.options = self._read_options()
        if self.scheme == "embedded":
            return StoreURL("embedded", path=_embedded_path(self.rest))
        authority, slash, path = self.rest.partition("/")
        username, password, authority = _user(authority)
        url = StoreURL(self.scheme, username=username, password=password)
        if self.scheme == "unix":
            if authority or not path:
                raise _Reason("the path of the socket must be absolute (three slashes)")
            return replace(url, path=unquote(slash + path), db=self._db(""))
        if "@" in path:
            raise _Reason(_STRAY_AT)
        hosts = tuple(
            _host(part, _DEFAULT_PORTS.get(self.scheme, 6379)) for part in authority.split(",")
        )
        if url.is_cluster:
            if path not in ("", "0"):
                raise _Reason(f"a cluster has no databases, so {shown('/' + path)} cannot follow")
            return replace(url, hosts=hosts, tls=self._tls())
        if self.scheme == _ASYNQ_SENTINEL:
            return self._read_asynq_sentinel(hosts, path, username, password)
        if self.scheme in _SENTINEL:
            return self._read_sentinel(replace(url, hosts=hosts), path)
        if len(hosts) != 1:
            raise _Reason("it names several hosts; for these write redis+sentinel or redis+cluster")
        return replace(url, hosts=hosts, db=self._db(path), tls=self._tls())

    def _read_sentinel(self, url: StoreURL, path: str) -> StoreURL:
        master, _, db = path.partition("/")
        if not master:
            raise _Reason("the name of the master is missing")
        username = self.options.get("sentinel_username")
        password = self.options.get("sentinel_password")
        if username is not None and password is None:
            raise _Reason("there is a sentinel_username without a sentinel_password")
        sentinel_tls = self._truth("sentinel_tls") if "sentinel_tls" in self.options else None
        tls = self._tls()
        if tls and not (url.uses_tls or sentinel_tls):
            raise _Reason(f"{tls[0][0]} needs TLS: write rediss+sentinel or sentinel_tls=true")
        return replace(
            url,
            master=unquote(master),
            db=self._db(db),
            sentinel_username=username,
            sentinel_password=password,
            sentinel_tls=None if sentinel_tls == url.uses_tls else sentinel_tls,
            tls=tls,
        )

    def _read_asynq_sentinel(
        self,
        hosts: tuple[tuple[str, int], ...],
        path: str,
        username: str | None,
        password: str | None,
    ) -> StoreURL:
        """Read a URI of Asynq, whose password is that of the Sentinels."""
        master = self.options.get("master")
        if not master:
            raise _Reason("the name of the master is missing (?master=name)")
        return StoreURL(
            "redis+sentinel",
            hosts,
            master=master,
            db=self._db(path),
            sentinel_username=username,
            sentinel_password=password,
        )

    def _truth(self, name: str) -> bool:
        """Return the value of an option that is true or false."""
        value = self.options[name]
        if value.lower() not in _TRUTH:
            raise _Reason(f"{name}={shown(value)} is neither true nor false")
        return _TRUTH[value.lower()]

    def _read_options(self) -> dict[str, str]:
        options: dict[str, str] = {}
        accepted = _OPTIONS[self.scheme]
        for part in self.query.split("&") if self.query else ():
            name, equals, value = part.partition("=")
            if name not in accepted:
                known = "the options are " + ", ".join(accepted) if accepted else "it takes none"
                question = did_you_mean(name, accepted)
                end = f": {question}" if question else ""
                raise _Reason(f"there is no option {shown(redact(name))} ({known}){end}")
            if not equals or not value:
                raise _Reason(f"the option {shown(name)} has no value")
            if name in options:
                raise _Reason(f"the option {shown(name)} is given twice")
            options[name] = unquote(value)
        return options

    def _db(self, path: str) -> int:
        option = self.options.get("db")
        if path and option is not None:
            raise _Reason("the database is given twice, in the path and as an option")
        text = path or option or "0"
        # isdigit alone would accept the digits of other scripts.
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise _Reason(f"the database {shown(text)} is not a number from 0 on")
        return int(text)

    def _tls(self) -> tuple[tuple[str, str | bool], ...]:
        values: list[tuple[str, str | bool]] = []
        for name in _TLS_OPTIONS:
            value = self.options.get(name)
            if value is None:
                continue
            if name == "ssl_cert_reqs" and value not in _CERT_REQS:
                raise _Reason(f"ssl_cert_reqs={shown(value)} is none of {', '.join(_CERT_REQS)}")
            if name == "ssl_check_hostname":
                values.append((name, self._truth(name)))
            else:
                values.append((name, value))
        return tuple(values)


def _user(authority: str) -> tuple[str | None, str | None, str]:
    user, at, hosts = authority.rpartition("@")
    if not at:
        return None, None, authority
    name, colon, password = user.partition(":")
    if not colon or not password:
        raise _Reason("there is a user without a password (a password alone is written :password@)")
    return unquote(name) or None, unquote(password), hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise _Reason(f"the address {shown(text)} has no matching brackets")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _Reason(f"{shown(host)} is not an IPv6 address") from None
        has_port, port = bool(port), port[1:]
    else:
        if text.count(":") > 1:
            raise _Reason(f"an IPv6 address is written in brackets, [{text}]")
        host, colon, port = text.partition(":")
        has_port = bool(colon)
        if not host:
            raise _Reason("the host is missing")
        if not _HOST_NAME.fullmatch(host):
            raise _Reason(f"{shown(host)} is not a host (is a sign in the password not %-encoded?)")
    if not has_port:
        return host, default_port
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise _Reason(f"the port {shown(port)} is not a number from 1 to 65535")
    return host, int(port)


def _embedded_path(rest: str) -> str:
    place = unquote(rest)
    if _CONTROL.search(place):
        raise _Reason("it contains a control character")
    if place.startswith("/"):
        return os.path.normpath(place)
    if place in (".", "..", "~") or place.startswith(("./", "../", "~/")):
        return os.path.abspath(os.path.expanduser(place))
    if not _STORE_NAME.fullmatch(place):
        raise _Reason(
            f"{shown(place)} is neither an absolute path nor a name "
            "(for a path from the current folder write embedded://./path)"
        )
    return named_store(place)


def stores_folder() -> Path:
    """Return the folder that holds the embedded stores with names, such as ``embedded://jobs``."""
    return Path(platformdirs.user_data_dir("nbqueue", appauthor=False)) / "stores"


def named_store(name: str) -> str:
    """Return the folder of the embedded store of this name."""
    return str(stores_folder() / name)


def _all_forms() -> str:
    return "The forms are " + "; ".join(_FORMS.values())
