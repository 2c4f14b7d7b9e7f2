"""streaQ."""

import asyncio
import os

import tasks
from streaq import Worker

worker = Worker(redis_url=os.environ["BENCH_URL"], concurrency=10)


@worker.task(silent=True, ttl=86_400)
async def mark(number, text=""):
    return tasks.mark(number, text)


@worker.task(silent=True, ttl=86_400)
async def spin(milliseconds):
    return tasks.spin(milliseconds)


@worker.task(silent=True, ttl=86_400)
async def echo(value):
    return value


TASKS = {"mark": mark, "spin": spin, "echo": echo}


class Peer:
    async def open(self):
        await worker.__aenter__()

    async def submit(self, count, bulk):
        if not bulk:
            for number in range(count):
                await mark.enqueue(number, tasks.TEXT)
            return
        for start in range(0, count, 1_000):
            numbers = range(start, min(count, start + 1_000))
            await worker.enqueue_many([mark.enqueue(each, tasks.TEXT) for each in numbers])

    async def run(self, name, argument):
        sent = await TASKS[name].enqueue(argument)
        return (await sent.result(timeout=30)).result

    async def map(self, name, arguments):
        sent = [TASKS[name].enqueue(each) for each in arguments]
        await worker.enqueue_many(sent)
        found = []
        for start in range(0, len(sent), 8):  # each wait takes a connection of the pool
            part = sent[start : start + 8]
            found += await asyncio.gather(*(each.result(timeout=120) for each in part))
        return [each.result for each in found]

    async def close(self):
        await worker.__aexit__(None, None, None)
