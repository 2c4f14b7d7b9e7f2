"""The submitting side, in the environment of one peer: client.py <module> <what> <JSON>.

Prints one line "RESULT {…}". The module has a class `Peer`, whose methods may be coroutines; then
all of it runs in one asyncio loop, as in the kernel of a notebook:

    open()                      connect; peers without a store start their workers
    submit(count, bulk)         mark(0) to mark(count - 1): one call each, or the best way in bulk;
                                peers without a store return what `gather` waits for
    run(name, argument)         submit one, wait for its result with the peer's own means
    map(name, arguments)        submit all, return all results in order
    gather(handles)             wait for these (peers without a store)
    close()
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import random
import statistics
import sys
import time
import traceback
from typing import Any

import tasks


async def settle(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50 ms": statistics.median(ordered),
        "p95 ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
    }


async def submit(peer: Any, wanted: dict[str, Any], sleep: Any) -> dict[str, Any]:
    """A1, A2: the workers do not run yet."""
    await settle(peer.open())
    began = time.perf_counter()
    await settle(peer.submit(wanted["count"], wanted["bulk"]))
    return {"tasks/s": wanted["count"] / (time.perf_counter() - began)}


async def submit_and_gather(peer: Any, wanted: dict[str, Any], sleep: Any) -> dict[str, Any]:
    """A1, A2 and B of peers without a store: their workers run while they submit."""
    await settle(peer.open())
    began = time.monotonic()
    handles = await settle(peer.submit(wanted["count"], wanted["bulk"]))
    submitted = time.monotonic()
    await settle(peer.gather(handles))
    times = [at for at, _ in tasks.marks(os.environ["BENCH_MARKS"])]
    return {
        "tasks/s": wanted["count"] / (submitted - began),
        "drain": (len(times) - 1) / (max(times) - min(times)),
    }


async def use(peer: Any, wanted: dict[str, Any], sleep: Any) -> dict[str, Any]:
    """C to G: a worker runs."""
    await settle(peer.open())
    await _until_it_runs(peer, sleep)
    found: dict[str, Any] = {}
    for name, measure in (("CD", _round_trips), ("EF", _maps), ("G", _arrays)):
        if set(name) & set(wanted["rows"]):
            try:
                found.update(await measure(peer, wanted, sleep))
            except Exception as error:
                traceback.print_exc()
                found[name[0]] = {"error": f"{type(error).__name__}: {error}"[:160]}
    return found


async def _until_it_runs(peer: Any, sleep: Any) -> None:
    limit, ran = time.monotonic() + 30, 0
    while ran < 12:
        try:
            await settle(peer.run("mark", -1))
            ran += 1
        except Exception:
            if time.monotonic() > limit:
                raise
            await sleep(0.2)


async def _round_trips(peer: Any, wanted: dict[str, Any], sleep: Any) -> dict[str, Any]:
    chance, submitted, times = random.Random(wanted["seed"]), {}, []
    os.truncate(os.environ["BENCH_MARKS"], 0)
    limit = time.monotonic() + wanted["seconds"]
    for number in range(wanted["trials"]):
        await sleep(chance.uniform(0.001, 0.01))
        submitted[number] = began = time.monotonic()
        found = await settle(peer.run("mark", number))
        times.append((time.monotonic() - began) * 1e3)
        assert int(found) == number, (found, number)
        if time.monotonic() > limit:
            break
    starts = [
        (at - submitted[number]) * 1e3
        for at, number in tasks.marks(os.environ["BENCH_MARKS"])
        if number in submitted
    ]
    return {"C": percentiles(times), "D": percentiles(starts)}


async def _maps(peer: Any, wanted: dict[str, Any], sleep: Any) -> dict[str, Any]:
    found = {}
    await settle(peer.map("spin", [1] * 4))
    for name, count, milliseconds in (("E", 1_000, 1), ("F", 200, 20)):
        if name not in wanted["rows"]:
            continue
        count = max(20, count // wanted["less"])
        began = time.perf_counter()
        results = await settle(peer.map("spin", [milliseconds] * count))
        found[name] = {"s": time.perf_counter() - began}
        assert list(results) == [milliseconds] * count
    return found


async def _arrays(peer: Any, wanted: dict[str, Any], sleep: Any) -> dict[str, Any]:
    import numpy

    found: dict[str, float] = {}
    for megabytes in (1, 10):
        array = numpy.random.default_rng(0).random(megabytes * 131_072)
        times: list[float] = []
        limit = time.monotonic() + 5
        while len(times) < 8 and (time.monotonic() < limit or len(times) < 3):
            began = time.perf_counter()
            back = await settle(peer.run("echo", array))
            times.append((time.perf_counter() - began) * 1e3)
            assert isinstance(back, numpy.ndarray), f"no array came back but {type(back).__name__}"
            assert back.nbytes == array.nbytes
        found[f"{megabytes} MB, p50 ms"] = statistics.median(times[1:])
    return {"G": found}


async def main(peer: Any, what: str, wanted: dict[str, Any], sleep: Any) -> None:
    code = 1
    try:
        print("RESULT " + json.dumps(await globals()[what](peer, wanted, sleep)), flush=True)
        code = 0
        closing = peer.close()
        if inspect.isawaitable(closing):
            await asyncio.wait_for(closing, 5)  # BullMQ's port may never end
    except BaseException:
        traceback.print_exc()
    # Some clients' threads do not end; they shall not hold up the others.
    os._exit(code)


async def block(seconds: float) -> None:
    time.sleep(seconds)


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    peer = module.Peer()
    wanted = json.loads(sys.argv[3])
    if inspect.iscoroutinefunction(module.Peer.run):
        asyncio.run(main(peer, sys.argv[2], wanted, asyncio.sleep))
    else:
        # Nothing in it awaits, so one step runs all of it, and there is no loop in the way.
        main(peer, sys.argv[2], wanted, block).send(None)
