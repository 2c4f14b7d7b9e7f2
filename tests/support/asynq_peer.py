"""Imitate a Go program on the store, following the protocol (section B).

It has scripts of its own, independent of those under test. Times are Unix seconds.
"""

from __future__ import annotations

from typing import Any

_RELEASE = """
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 then return redis.error_reply('NOT FOUND') end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return redis.error_reply('NOT FOUND') end
"""
_ENQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'msg', ARGV[2], 'state', 'pending', 'pending_since', ARGV[3])
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""
_ENQUEUE_UNIQUE = """
if not redis.call('SET', KEYS[3], ARGV[1], 'NX', 'EX', ARGV[4]) then return -1 end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'msg', ARGV[2], 'state', 'pending', 'pending_since', ARGV[3],
  'unique_key', KEYS[3])
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""
_SCHEDULE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'msg', ARGV[2], 'state', 'scheduled')
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
"""
_DEQUEUE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local id = redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
if not id then return false end
local task = ARGV[2] .. id
redis.call('HSET', task, 'state', 'active')
redis.call('HDEL', task, 'pending_since')
redis.call('ZADD', KEYS[4], ARGV[1], id)
return redis.call('HGET', task, 'msg')
"""
_DONE = (
    _RELEASE
    + """
if redis.call('DEL', KEYS[3]) == 0 then return redis.error_reply('NOT FOUND') end
redis.call('INCR', KEYS[4])
return 1
"""
)
_COMPLETE = (
    _RELEASE
    + """
if redis.call('ZADD', KEYS[5], ARGV[3], ARGV[1]) == 0 then
  return redis.error_reply('INTERNAL')
end
redis.call('HSET', KEYS[3], 'msg', ARGV[2], 'state', 'completed')
redis.call('INCR', KEYS[4])
return 1
"""
)
_REQUEUE = (
    _RELEASE
    + """
redis.call('RPUSH', KEYS[4], ARGV[1])
redis.call('HSET', KEYS[3], 'state', 'pending')
return 1
"""
)
_FAIL = (
    _RELEASE
    + """
redis.call('ZADD', KEYS[6], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[3], 'msg', ARGV[2], 'state', ARGV[4])
redis.call('INCR', KEYS[4])
redis.call('INCR', KEYS[5])
return 1
"""
)
_FORWARD = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 100)
for _, id in ipairs(ids) do
  local task, group = ARGV[2] .. id, redis.call('HGET', ARGV[2] .. id, 'group')
  if group and group ~= '' then
    redis.call('ZADD', ARGV[4] .. group, ARGV[1], id)
    redis.call('ZREM', KEYS[1], id)
    redis.call('HSET', task, 'state', 'aggregating')
  else
    redis.call('LPUSH', KEYS[2], id)
    redis.call('ZREM', KEYS[1], id)
    redis.call('HSET', task, 'state', 'pending', 'pending_since', ARGV[3])
  end
end
return #ids
"""
_ADD_TO_GROUP = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'msg', ARGV[2], 'state', 'aggregating', 'group', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[4])
return 1
"""
_CHECK = """
local size, most = redis.call('ZCARD', KEYS[1]), tonumber(ARGV[1])
if size == 0 then return 0 end
local now, delay, grace = tonumber(ARGV[4]), tonumber(ARGV[2]), tonumber(ARGV[3])
local function move(count)
  local found = redis.call('ZRANGE', KEYS[1], 0, count - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    redis.call('ZADD', KEYS[2], found[i + 1], found[i])
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, count - 1)
  redis.call('ZADD', KEYS[3], ARGV[5], KEYS[2])
  if count >= size then redis.call('SREM', KEYS[4], ARGV[6]) end
  return 1
end
if most ~= 0 and size >= most then return move(most) end
local oldest = tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
local newest = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
if (delay ~= 0 and oldest <= now - delay) or newest <= now - grace then
  return move(most ~= 0 and most or size)
end
return 0
"""
_DELETE_SET = """
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  redis.call('DEL', ARGV[1] .. id)
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], KEYS[1])
"""
_RECLAIM = """
local stale = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for _, set in ipairs(stale) do
  local group = string.match(set, '^(.*):[^:]*$')
  local found = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do
    redis.call('ZADD', group, found[i + 1], found[i])
  end
  redis.call('DEL', set)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
return #stale
"""
_RUN_ONE = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'active' or state == 'pending' then return 0 end
local place = ARGV[2] .. state
if state == 'aggregating' then
  place = ARGV[2] .. 'g:' .. redis.call('HGET', KEYS[1], 'group')
end
if redis.call('ZREM', place, ARGV[1]) == 0 then return -1 end
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'pending')
return 1
"""


_REMOVE = """
for i = 1, 5 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  local ids = kind == 'list' and redis.call('LRANGE', KEYS[i], 0, -1)
    or kind == 'zset' and redis.call('ZRANGE', KEYS[i], 0, -1) or {}
  if #ids > 0 and ARGV[2] ~= '1' then return 0 end
  for _, id in ipairs(ids) do
    redis.call('DEL', ARGV[1] .. id)
  end
end
redis.call('DEL', unpack(KEYS))
return 1
"""


class AsynqPeer:
    """The actions of Go clients, servers and inspectors on one queue."""

    def __init__(self, redis: Any, queue: str = "q") -> None:
        self._redis = redis
        self._prefix = f"asynq:{{{queue}}}:"
        self._queue = queue

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _eval(self, script: str, names: tuple[str, ...], *args: Any) -> Any:
        return self._redis.eval(script, len(names), *map(self._key, names), *args)

    def enqueue(self, task_id: str, msg: bytes, now_ns: int) -> int:
        self._redis.sadd("asynq:queues", self._queue)
        return int(self._eval(_ENQUEUE, (f"t:{task_id}", "pending"), task_id, msg, now_ns))

    def enqueue_unique(self, task_id: str, msg: bytes, now_ns: int, lock: str, ttl: int) -> int:
        self._redis.sadd("asynq:queues", self._queue)
        names = (f"t:{task_id}", "pending", lock)
        return int(self._eval(_ENQUEUE_UNIQUE, names, task_id, msg, now_ns, ttl))

    def schedule(self, task_id: str, msg: bytes, at_s: int) -> int:
        self._redis.sadd("asynq:queues", self._queue)
        return int(self._eval(_SCHEDULE, (f"t:{task_id}", "scheduled"), task_id, msg, at_s))

    def dequeue(self, now_s: int) -> bytes | None:
        names = ("pending", "paused", "active", "lease")
        found: bytes | None = self._eval(_DEQUEUE, names, now_s + 30, self._key("t:"))
        return found

    def extend(self, task_ids: list[str], now_s: int) -> None:
        if task_ids:
            self._redis.zadd(self._key("lease"), dict.fromkeys(task_ids, now_s + 30), xx=True)

    def done(self, task_id: str) -> None:
        self._eval(_DONE, ("active", "lease", f"t:{task_id}", "processed"), task_id)

    def complete(self, task_id: str, msg: bytes, keep_until: int) -> None:
        names = ("active", "lease", f"t:{task_id}", "processed", "completed")
        self._eval(_COMPLETE, names, task_id, msg, keep_until)

    def requeue(self, task_id: str) -> None:
        self._eval(_REQUEUE, ("active", "lease", f"t:{task_id}", "pending"), task_id)

    def retry(self, task_id: str, msg: bytes, at_s: int) -> None:
        self._fail(task_id, msg, at_s, "retry")

    def archive(self, task_id: str, msg: bytes, now_s: int) -> None:
        self._fail(task_id, msg, now_s, "archived")

    def _fail(self, task_id: str, msg: bytes, score: int, state: str) -> None:
        names = ("active", "lease", f"t:{task_id}", "processed", "failed", state)
        self._eval(_FAIL, names, task_id, msg, score, state)

    def forward(self, now_s: int) -> int:
        args = (now_s, self._key("t:"), now_s * 1_000_000_000, self._key("g:"))
        return sum(
            int(self._eval(_FORWARD, (name, "pending"), *args)) for name in ("scheduled", "retry")
        )

    def add_to_group(self, task_id: str, msg: bytes, group: str, now_s: int) -> int:
        self._redis.sadd("asynq:queues", self._queue)
        names = (f"t:{task_id}", f"g:{group}", "groups")
        return int(self._eval(_ADD_TO_GROUP, names, task_id, msg, now_s, group))

    def check_group(
        self, group: str, set_id: str, now_s: int, size: int = 0, delay: int = 0, grace: int = 60
    ) -> bool:
        """Move the members of an aggregation group to a set, if that is due."""
        names = (f"g:{group}", f"g:{group}:{set_id}", "aggregation_sets", "groups")
        args = (size, delay, grace, now_s, now_s + 120, group)
        return bool(self._eval(_CHECK, names, *args))

    def read_set(self, group: str, set_id: str) -> tuple[list[bytes], int]:
        """Return the messages of a set, and its deadline."""
        key = self._key(f"g:{group}:{set_id}")
        ids = self._redis.zrange(key, 0, -1)
        found = [self._redis.hget(self._key("t:") + task_id.decode(), "msg") for task_id in ids]
        return found, int(self._redis.zscore(self._key("aggregation_sets"), key))

    def delete_set(self, group: str, set_id: str) -> None:
        self._eval(_DELETE_SET, (f"g:{group}:{set_id}", "aggregation_sets"), self._key("t:"))

    def reclaim(self, now_s: int) -> int:
        """Put back the members of expired sets."""
        return int(self._eval(_RECLAIM, ("aggregation_sets",), now_s))

    def remove_queue(self, force: bool = False) -> bool:
        """Remove a queue like ``asynq queue rm`` (section B.4), its name last."""
        names = ("pending", "active", "scheduled", "retry", "archived", "lease")
        if not self._eval(_REMOVE, names, self._key("t:"), int(force)):
            return False
        return bool(self._redis.srem("asynq:queues", self._queue))

    def run_one(self, task_id: str) -> int:
        return int(self._eval(_RUN_ONE, (f"t:{task_id}", "pending"), task_id, self._prefix))
