"""Load the Lua scripts from ``lua/`` with their fragments, and check their headers.

The header of each file names its keys and arguments. The loader makes a local variable of each
name, so no script counts positions, and `command` orders the values of callers by these names.
Further keys (``*tasks``) begin at ``tasks_at``, and the arguments that come once for each of them
(``then for each task: …``) at ``rest_at``.
"""

from __future__ import annotations

import hashlib
import pkgutil
import re
from functools import cache

from nbqueue.transport.script_call import Script

_HEADER = re.compile(r"^-- (KEYS|ARGV|RETURNS|USES|FULL): (.*)$")
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


def _header(name: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        match = _HEADER.match(line)
        if match:
            current = match[1]
            found[current] = match[2]
        elif current and line.startswith("--   "):
            found[current] += " " + line[5:].strip()
        elif current and line.startswith("-- "):
            found[current] += " " + line[3:].strip()
    for part in ("KEYS", "ARGV", "RETURNS"):
        if part not in found:
            raise ValueError(f"{name}.lua says nothing of its {part}")
    return found


def _names(text: str) -> tuple[str, ...]:
    plain = re.sub(r"\([^()]*\)", "", text)
    names = tuple(part.strip() for part in plain.split(",") if part.strip())
    for name in names:
        if not _NAME.match(name.lstrip("*")):
            raise ValueError(f"{name!r} cannot be the name of a key or an argument")
    return names


def _read(path: str) -> str:
    found = pkgutil.get_data("nbqueue.broker", f"lua/{path}")
    assert found is not None
    return found.decode()


def _fragments(names: tuple[str, ...], found: dict[str, str]) -> dict[str, str]:
    """Add fragments to ``found``, each after those that it uses itself."""
    for name in names:
        if name not in found:
            text = _read(f"lib/{name}.lua")
            line = re.search(r"^-- USES: (.*)$", text, re.MULTILINE)
            _fragments(_names(line[1]) if line else (), found)
            found[name] = text
    return found


@cache
def load(name: str) -> Script:
    """Return the script in ``lua/<name>.lua``. Raises `ValueError` if its header is wrong."""
    text = _read(f"{name}.lua")
    header = _header(name, text)
    keys = _names(header["KEYS"])
    fixed_args, _, rest = header["ARGV"].partition("then for each task:")
    args = _names(fixed_args)
    rest_names = _names(rest)
    prologue = ["local KEYS, ARGV = KEYS, ARGV"]  # A global is looked up at each use.
    fixed_keys = tuple(key for key in keys if not key.startswith("*"))
    prologue += [f"local {key} = KEYS[{i}]" for i, key in enumerate(fixed_keys, 1)]
    prologue += [f"local {arg} = ARGV[{i}]" for i, arg in enumerate(args, 1)]
    if len(fixed_keys) < len(keys):
        prologue.append(f"local {keys[-1][1:]}_at = {len(keys)}")
    if rest_names:
        prologue.append(f"local rest_at = {len(args) + 1}")
    used = _fragments(_names(header.get("USES", "")), {}).values()
    body = "\n".join([*prologue, *used, text])
    compact = "\n".join(
        line.strip()
        for line in body.splitlines()
        if line.strip() and not line.lstrip().startswith("--")
    ).encode()
    sha = hashlib.sha1(compact, usedforsecurity=False).hexdigest().encode()
    return Script(
        name,
        compact,
        sha,
        fixed_keys,
        args,
        rest_names,
        has_further_keys=len(fixed_keys) < len(keys),
        full=header.get("FULL", ""),
    )
