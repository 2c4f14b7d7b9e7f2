"""Choose the store to use if none is given.

Nothing here opens a connection or creates a folder. The disk is read to find the project that a
folder belongs to.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nbqueue.errors import InvalidURL
from nbqueue.store.embedded_folder import data_bytes
from nbqueue.store.url import StoreURL, named_store, parse_url

# : The environment variable with the default store URL.
URL_VARIABLE = "NBQUEUE_URL"

_SHARED = "default"
"""The name of the store of all folders that belong to no project."""

_EMPTY_BYTES = 512
"""Files of a store without a task are smaller than this."""


def default_url(
    cwd: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> StoreURL:
    """Return the store to use if none is given.

    That is ``NBQUEUE_URL`` if it is set and not empty, else the embedded store of the project
    around ``cwd`` (the current folder if None): the nearest parent folder with a ``.git`` or a
    ``pyproject.toml``. A folder without one uses ``embedded://default``, unless it has a store of
    its own with tasks, which older versions made; see `kept_store`. Raises InvalidURL if the
    variable is not a URL.
    """
    given = (os.environ if environ is None else environ).get(URL_VARIABLE, "").strip()
    if given:
        try:
            return parse_url(given)
        except InvalidURL as error:
            raise InvalidURL(f"the environment variable {URL_VARIABLE}: {error}") from None
    folder = _real(cwd)
    project = project_of(folder)
    if project is not None:
        return _own_store(project)
    own = _own_store(folder)
    return own if _holds_tasks(own) else StoreURL("embedded", path=named_store(_SHARED))


def kept_store(url: StoreURL, cwd: str | os.PathLike[str] | None = None) -> str:
    """Return a notice if the default store ``url`` is one that only ``cwd`` uses, else nothing."""
    folder = _real(cwd)
    if project_of(folder) is not None or url != _own_store(folder):
        return ""
    return (
        f"this folder uses its own store from before, {url.place}, as that holds tasks. Other "
        "folders without a .git or pyproject.toml share embedded://default, and workers started "
        "there serve that one. To share it too, run `nbqueue store stop` here and move "
        f"{url.path} away"
    )


def project_of(folder: Path) -> Path | None:
    """Return the nearest folder upwards with a ``.git`` or a ``pyproject.toml``, or None."""
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists() or (candidate / "pyproject.toml").is_file():
            return candidate
    return None


def _real(cwd: str | os.PathLike[str] | None) -> Path:
    return Path(os.path.realpath(Path.cwd() if cwd is None else cwd))


def _own_store(folder: Path) -> StoreURL:
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-.")[:40] or "root"
    # The name is for people; the hash distinguishes two projects called "analysis".
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:10]
    return StoreURL("embedded", path=named_store(f"{readable}-{digest}"))


def _holds_tasks(url: StoreURL) -> bool:
    # By the size of its files: a question would start the server.
    return data_bytes(Path(url.path or "")) > _EMPTY_BYTES
