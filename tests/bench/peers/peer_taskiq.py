"""Taskiq."""

import asyncio
import os

import tasks
from taskiq.serializers import PickleSerializer
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

URL = os.environ["BENCH_URL"]
broker = (
    ListQueueBroker(url=URL, queue_name="bench")
    .with_result_backend(RedisAsyncResultBackend(redis_url=URL, result_ex_time=86_400))
    .with_serializer(PickleSerializer())
)


@broker.task(task_name="mark")
async def mark(number, text=""):
    return tasks.mark(number, text)


@broker.task(task_name="spin")
async def spin(milliseconds):
    return tasks.spin(milliseconds)


TASKS = {"mark": mark, "spin": spin}


class Peer:
    async def open(self):
        await broker.startup()

    async def _all(self, name, arguments):
        # There is no interface for many: a hundred at once.
        sent = []
        for start in range(0, len(arguments), 100):
            part = arguments[start : start + 100]
            sent += await asyncio.gather(*(TASKS[name].kiq(*each) for each in part))
        return sent

    async def submit(self, count, bulk):
        arguments = [(number, tasks.TEXT) for number in range(count)]
        if bulk:
            await self._all("mark", arguments)
            return
        for each in arguments:
            await mark.kiq(*each)

    async def _wait(self, sent, seconds):
        result = await sent.wait_result(timeout=seconds, check_interval=0.002)
        result.raise_for_error()
        return result.return_value

    async def run(self, name, argument):
        return await self._wait(await TASKS[name].kiq(argument), 10)

    async def map(self, name, arguments):
        sent = await self._all(name, [(each,) for each in arguments])
        return [await self._wait(each, 120) for each in sent]

    async def close(self):
        await broker.shutdown()
