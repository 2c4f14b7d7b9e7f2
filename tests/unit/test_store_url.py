"""Store URLs: valid and refused ones, and messages that show no password."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nbqueue.errors import InvalidURL
from nbqueue.store.url import StoreURL, parse_url


@pytest.fixture(autouse=True)
def data_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "data-home"
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name, appauthor=None: str(home / name))
    return home / "nbqueue" / "stores"


READ = [
    ("redis://h", StoreURL("redis", (("h", 6379),))),
    ("  REDIS://h/ \n", StoreURL("redis", (("h", 6379),))),
    ("redis://h:1/15", StoreURL("redis", (("h", 1),), db=15)),
    ("redis://h?db=2", StoreURL("redis", (("h", 6379),), db=2)),
    ("redis://:p@h", StoreURL("redis", (("h", 6379),), password="p")),
    ("redis://u:p:q@h", StoreURL("redis", (("h", 6379),), username="u", password="p:q")),
    (
        "redis://u%3A:p%40%2F%25@h",
        StoreURL("redis", (("h", 6379),), username="u:", password="p@/%"),
    ),
    ("redis://[::1]:7/2", StoreURL("redis", (("::1", 7),), db=2)),
    ("redis://[fe80::1]", StoreURL("redis", (("fe80::1", 6379),))),
    ("redis://my_redis.svc:7", StoreURL("redis", (("my_redis.svc", 7),))),
    (
        "rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/a%20b.pem&ssl_check_hostname=No",
        StoreURL(
            "rediss",
            (("h", 6379),),
            tls=(
                ("ssl_cert_reqs", "none"),
                ("ssl_ca_certs", "/a b.pem"),
                ("ssl_check_hostname", False),
            ),
        ),
    ),
    ("unix:///run/a%20b.sock?db=3", StoreURL("unix", path="/run/a b.sock", db=3)),
    ("unix://u:p@/run/a@b", StoreURL("unix", path="/run/a@b", username="u", password="p")),
    ("redis+sentinel://a/m", StoreURL("redis+sentinel", (("a", 26379),), master="m")),
    (
        "redis+sentinel://u:p@a:1,[::1]/m/4?sentinel_username=s&sentinel_password=t%26",
        StoreURL(
            "redis+sentinel",
            (("a", 1), ("::1", 26379)),
            db=4,
            username="u",
            password="p",
            master="m",
            sentinel_username="s",
            sentinel_password="t&",
        ),
    ),
    (
        "rediss+sentinel://a/m?sentinel_tls=no&ssl_ca_certs=/ca.pem",
        StoreURL(
            "rediss+sentinel",
            (("a", 26379),),
            master="m",
            tls=(("ssl_ca_certs", "/ca.pem"),),
            sentinel_tls=False,
        ),
    ),
    (
        "redis+sentinel://a/m?sentinel_tls=true&ssl_cert_reqs=none",
        StoreURL(
            "redis+sentinel",
            (("a", 26379),),
            master="m",
            tls=(("ssl_cert_reqs", "none"),),
            sentinel_tls=True,
        ),
    ),
    (
        "redis-sentinel://:p@a:1,b?master=m",
        StoreURL("redis+sentinel", (("a", 1), ("b", 26379)), master="m", sentinel_password="p"),
    ),
    (
        "redis+cluster://:p@a:7000,b",
        StoreURL("redis+cluster", (("a", 7000), ("b", 6379)), password="p"),
    ),
    ("embedded:///a/../b%20c/d@e", StoreURL("embedded", path="/b c/d@e")),
]


@pytest.mark.parametrize(("text", "url"), READ, ids=[text for text, _ in READ])
def test_a_url_is_read_and_written_back(text: str, url: StoreURL) -> None:
    assert parse_url(text) == url
    assert parse_url(url.text) == url


REFUSED = [
    ("", "no known scheme"),
    ("localhost:6379", "no known scheme"),
    ("http://h", "no known scheme"),
    ("redis:/h", "no known scheme"),
    ("redis://", "host is missing"),
    ("redis://:6379", "host is missing"),
    ("redis://:p@/0", "host is missing"),
    ("redis://a b", "not a host"),
    ("redis://h:", "port ''"),
    ("redis://h:x", "port 'x'"),
    ("redis://h:0", "port '0'"),
    ("redis://h:65536", "port '65536'"),
    ("redis://h:٣", "port '٣'"),
    ("redis://h/x", "database 'x'"),
    ("redis://h/-1", "database '-1'"),
    ("redis://h/1/2", "database '1/2'"),
    ("redis://h/1?db=1", "given twice"),
    ("redis://h?db=1&db=2", "given twice"),
    ("redis://h?db=", "no value"),
    ("redis://h?timeout=3", "no option 'timeout'"),
    ("redis://h?ssl_cert_reqs=none", "no option 'ssl_cert_reqs'"),
    ("redis://a,b", "redis+sentinel or redis+cluster"),
    ("redis://::1:6379", "in brackets"),
    ("redis://[::1", "brackets"),
    ("redis://[::1]6379", "brackets"),
    ("redis://[h]", "not an IPv6 address"),
    ("redis://user@h", "user without a password"),
    ("redis://user:@h", "user without a password"),
    ("redis://h\x00", "control character"),
    ("rediss://h?ssl_cert_reqs=maybe", "'maybe' is none of none, optional, required"),
    ("rediss://h?ssl_check_hostname=2", "neither true nor false"),
    ("unix://relative.sock", "absolute"),
    ("unix://", "absolute"),
    ("unix:///s?db=x", "database 'x'"),
    ("redis+sentinel://h", "name of the master is missing"),
    ("redis+sentinel://h/", "name of the master is missing"),
    ("redis+sentinel:///m", "host is missing"),
    ("redis+sentinel://h/m/x", "database 'x'"),
    ("redis+sentinel://h/m?sentinel_username=u", "without a sentinel_password"),
    ("redis+sentinel://h/m?ssl_ca_certs=/a", "needs TLS: write rediss+sentinel"),
    ("rediss+sentinel://h/m?sentinel_tls=2", "neither true nor false"),
    ("redis-sentinel://h/m", "name of the master is missing"),
    ("redis+cluster://a,,b", "host is missing"),
    ("redis+cluster://a/1", "no databases"),
    ("redis+cluster://a?db=1", "it takes none"),
    ("embedded://", "neither an absolute path nor a name"),
    ("embedded://a/b", "embedded://./path"),
    ("embedded://.hidden", "neither an absolute path nor a name"),
    ("embedded:///a%00b", "control character"),
    ("embedded://default?db=1", "it takes none"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=[repr(text) for text, _ in REFUSED])
def test_a_bad_url_is_refused_with_its_reason_and_its_form(text: str, why: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    message = str(caught.value)
    scheme, separator, _ = text.partition("://")
    form = f"{scheme}://" if separator and scheme != "http" else "redis://"
    assert why in message
    assert repr(text.strip()) in message or "***" in message
    assert form in message.partition("The form")[2]


def test_something_that_is_not_text_is_refused() -> None:
    with pytest.raises(InvalidURL, match="not int"):
        parse_url(6379)  # type: ignore[arg-type]


LEAKY = [
    "redis://u:hunter2@h:x",
    "redis://:hunter2@h/x",
    "redis://u:hun@ter2@h/x",
    "redis://u:ter2/@h",
    "redis://u:ter2/x@h:1",
    "redis://u:ter2?x@h:1",
    "redis://u:ter2?ter2@h",
    "redis://u:ter2/ter2@h/ter2@h",
    "redis:/u:hunter2@h",
    "u:hunter2@h",
    "http://u:hunter2@h",
    "redis://hunter2@h",
    "redis+sentinel://h/m?sentinel_pasword=hunter2",
    "redis+sentinel://h?sentinel_password=hunter2",
    "redis://h?password=hunter2",
    "unix://u:hunter2@x",
]


@pytest.mark.parametrize("text", LEAKY)
def test_no_error_shows_a_password(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert "ter2" not in str(caught.value)


def test_a_url_never_shows_its_passwords_unless_asked_to() -> None:
    url = parse_url("redis+sentinel://u:hunter2@a/m/1?sentinel_password=sesame")
    for shown in (url.redacted, str(url), repr(url), f"{url}"):
        assert "hunter2" not in shown
        assert "sesame" not in shown
    assert url.redacted == "redis+sentinel://u:***@a:26379/m/1?sentinel_password=***"
    assert url.text == "redis+sentinel://u:hunter2@a:26379/m/1?sentinel_password=sesame"
    assert pickle.loads(pickle.dumps(url)) == url


def test_an_embedded_name_lies_in_the_data_directory(data_home: Path) -> None:
    assert parse_url("embedded://default").path == str(data_home / "default")
    assert parse_url("embedded://my-store.1").path == str(data_home / "my-store.1")


def test_an_embedded_path_may_be_relative_to_the_folder_or_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    assert parse_url("embedded://./x").path == str(Path.cwd() / "x")
    assert parse_url("embedded://../x").path == str(Path.cwd().parent / "x")
    assert parse_url("embedded://~/x").path == "/home/ann/x"


def test_a_place_is_written_as_people_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    written = {
        "embedded://jobs": "embedded://jobs",
        "embedded:///home/ann/my jobs": "embedded://~/my%20jobs",
        "embedded:///home/annabel": "embedded:///home/annabel",
        "redis://:p@h/3": "redis://:***@h:6379/3",
    }
    for text, place in written.items():
        url = parse_url(text)
        assert url.place == place
        if url.password is None:
            assert parse_url(place) == url
