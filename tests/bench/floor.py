"""Speed of the machine itself, by which slow moments can be recognised."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from bench import TEXT, Bench

_ECHO = """
import sys
import redis
link = redis.Redis.from_url(sys.argv[1])
while True:
    _, word = link.brpop("floor:there")
    link.lpush("floor:back", word)
    if word == b"end":
        break
"""


def floor(bench: Bench) -> dict[str, float]:
    """A script call for each task, one round trip each; two hops through lists; pure Python."""
    return {
        "script calls/s": _script_calls(bench),
        "two list hops, p50 ms": _list_hops(bench),
        "Python, million turns/s": _turns(bench),
    }


def _script_calls(bench: Bench) -> float:
    calls = bench.count(10_000)
    script = bench.redis.register_script(
        "redis.call('HSET', KEYS[1], 'msg', ARGV[1]) redis.call('LPUSH', KEYS[2], ARGV[2]) return 1"
    )
    script(keys=["floor:task", "floor:line"], args=[TEXT, 0])
    began = time.perf_counter()
    for number in range(calls):
        script(keys=["floor:task", "floor:line"], args=[TEXT, number])
    seconds = time.perf_counter() - began
    bench.redis.delete("floor:task", "floor:line")
    return calls / seconds


def _list_hops(bench: Bench) -> float:
    bench.redis.delete("floor:there", "floor:back")
    process = subprocess.Popen([sys.executable, "-c", _ECHO, bench.url])
    times = []
    for _ in range(20 + bench.count(300)):
        time.sleep(0.001)
        began = time.perf_counter()
        bench.redis.lpush("floor:there", "word")
        bench.redis.brpop("floor:back")
        times.append((time.perf_counter() - began) * 1e3)
    bench.redis.lpush("floor:there", "end")
    process.wait()
    bench.redis.delete("floor:back")
    return statistics.median(times[20:])


def _turns(bench: Bench) -> float:
    turns = bench.count(1_000_000)
    began, total = time.perf_counter(), 0
    for number in range(turns):
        total += number & 7
    return turns / (time.perf_counter() - began) / 1e6
