"""arq."""

import asyncio
import os

import tasks
from arq import create_pool
from arq.connections import RedisSettings

LOG = {"version": 1, "disable_existing_loggers": False}  # no line for each job


async def mark(ctx, number, text=""):
    return tasks.mark(number, text)


async def spin(ctx, milliseconds):
    return tasks.spin(milliseconds)


async def echo(ctx, value):
    return value


class WorkerSettings:
    functions = (mark, spin, echo)
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_URL"])
    log_results = False
    keep_result = 86_400
    poll_delay = 0.005
    max_jobs = 10


class Peer:
    async def open(self):
        self.pool = await create_pool(WorkerSettings.redis_settings)

    async def _all(self, name, arguments):
        # There is no interface for many: a hundred at once.
        jobs = []
        for start in range(0, len(arguments), 100):
            part = arguments[start : start + 100]
            jobs += await asyncio.gather(*(self.pool.enqueue_job(name, *each) for each in part))
        return jobs

    async def submit(self, count, bulk):
        arguments = [(number, tasks.TEXT) for number in range(count)]
        if bulk:
            await self._all("mark", arguments)
            return
        for each in arguments:
            await self.pool.enqueue_job("mark", *each)

    async def run(self, name, argument):
        job = await self.pool.enqueue_job(name, argument)
        return await job.result(timeout=30, poll_delay=0.002)

    async def map(self, name, arguments):
        jobs = await self._all(name, [(each,) for each in arguments])
        return [await job.result(timeout=120, poll_delay=0.002) for job in jobs]

    async def close(self):
        await self.pool.aclose()
