"""The version of nbqueue's data, which protects them from old programs.

A store records the schema of its data, and the minimum schema that a program must support: ``b"3
2"`` are data of schema 3 that a program of schema 2 may read and write. An empty store, and one
with Asynq data only, has no version. A worker writes it when it connects, a client with its first
task; a lower version is never written.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from nbqueue.errors import StoreUnsuitable
from nbqueue.wire.keys import SCHEMA_KEY


class Schema(NamedTuple):
    """A version of the data, and the minimum version of a program."""

    version: int
    needs: int


CURRENT: Final = Schema(version=1, needs=1)
"""The schema of this version of nbqueue.

Raise ``version`` when data are added or changed, and raise ``needs`` to it if an older program
would do harm.
"""

QUESTION: Final = ("GET", SCHEMA_KEY)
_FORM: Final = re.compile(rb"(\d{1,9}) (\d{1,9})")

# A single key, so that this is atomic in a cluster as well.
_RAISE: Final = """
local found = redis.call('GET', KEYS[1])
local version, needs = string.match(found or '', '^(%d+) (%d+)$')
if found and not version then return 0 end
if version and tonumber(version) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. math.max(tonumber(needs or 0), tonumber(ARGV[2])))
return 1
"""


def note(schema: Schema = CURRENT) -> tuple[str, ...]:
    """Return the command that records ``schema``.

    It changes nothing if the store has a newer one.
    """
    return ("EVAL", _RAISE, "1", SCHEMA_KEY, str(schema.version), str(schema.needs))


def is_due(place: str, reply: Any, schema: Schema = CURRENT) -> bool:
    """Return whether ``schema`` must be recorded in the store at ``place``.

    ``reply`` is the reply to `QUESTION`. Raises `StoreUnsuitable` for a store whose data need a
    newer program, and for a version that cannot be parsed.
    """
    if reply is None:
        return True
    if isinstance(reply, Exception) and "WRONGTYPE" not in str(reply):
        return False  # the user has only some queues, or the server gives no access to this key
    match = _FORM.fullmatch(reply) if isinstance(reply, bytes) else None
    if match is None:
        shown = "of another type" if isinstance(reply, Exception) else repr(reply)[:80]
        raise StoreUnsuitable(
            f"the store {place} does not say which version its data have: the key {SCHEMA_KEY} "
            f"holds no version of nbqueue ({shown}). If no other program uses this key, delete it: "
            f"redis-cli DEL '{SCHEMA_KEY}'"
        )
    found = Schema(int(match[1]), int(match[2]))
    if found.needs > schema.version:
        raise StoreUnsuitable(
            f"the store {place} holds data of a newer nbqueue (schema {found.version}), which "
            f"programs that know schema {found.needs} may use; this one knows {schema.version}. "
            "Nothing was changed. Upgrade nbqueue here: pip install --upgrade nbqueue"
        )
    return found.version < schema.version
