"""SAQ."""

import asyncio
import os
import pickle

import tasks
from saq.queue.redis import RedisQueue


def make_queue():
    url = os.environ["BENCH_URL"]
    return RedisQueue.from_url(url, name="bench", dump=pickle.dumps, load=pickle.loads)


async def mark(ctx, *, value, text=""):
    return tasks.mark(value, text)


async def spin(ctx, *, value):
    return tasks.spin(value)


async def echo(ctx, *, value):
    return value


settings = {"queue": make_queue(), "functions": [mark, spin, echo], "concurrency": 10}


class Peer:
    async def open(self):
        self.queue = make_queue()
        await self.queue.connect()

    async def submit(self, count, bulk):
        if not bulk:
            for number in range(count):
                await self.queue.enqueue("mark", value=number, text=tasks.TEXT)
            return
        for start in range(0, count, 100):  # there is no interface for many
            numbers = range(start, min(count, start + 100))
            await asyncio.gather(
                *(self.queue.enqueue("mark", value=each, text=tasks.TEXT) for each in numbers)
            )

    async def run(self, name, argument):
        return await self.queue.apply(name, value=argument, timeout=30, poll_interval=0.001)

    async def map(self, name, arguments):
        values = [{"value": each} for each in arguments]
        return await self.queue.map(name, values, timeout=120, poll_interval=0.02)

    async def close(self):
        await self.queue.disconnect()
