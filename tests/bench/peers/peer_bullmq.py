"""BullMQ's port to Python; run as a program it is a worker."""

import asyncio
import os
import uuid

import tasks
from bullmq import Queue, QueueEvents, Worker

OPTIONS = {"connection": os.environ["BENCH_URL"]}


async def process(job, token):
    return tasks.FUNCTIONS[job.name](job.data["value"])


class Peer:
    def __init__(self):
        self.events = None
        self.waiting = {}

    async def open(self):
        self.queue = Queue("bench", OPTIONS)

    async def submit(self, count, bulk):
        data = [{"value": number, "text": tasks.TEXT} for number in range(count)]
        if not bulk:
            for each in data:
                await self.queue.add("mark", each)
            return
        for start in range(0, count, 1_000):
            part = data[start : start + 1_000]
            await self.queue.addBulk([{"name": "mark", "data": each} for each in part])

    def _on_completed(self, event, *_):
        future = self.waiting.pop(event["jobId"], None)
        if future is not None and not future.done():
            future.set_result(event.get("returnvalue"))

    def _expect(self):
        job_id, future = uuid.uuid4().hex, asyncio.get_running_loop().create_future()
        self.waiting[job_id] = future
        return job_id, future

    async def run(self, name, argument):
        if self.events is None:  # the port has no waitUntilFinished
            self.events = QueueEvents("bench", OPTIONS)
            self.events.on("completed", self._on_completed)
            await asyncio.sleep(0.3)
        job_id, future = self._expect()
        await self.queue.add(name, {"value": argument}, {"jobId": job_id})
        return await asyncio.wait_for(future, 10)

    async def map(self, name, arguments):
        expected = [self._expect() for _ in arguments]
        await self.queue.addBulk(
            [
                {"name": name, "data": {"value": each}, "opts": {"jobId": job_id}}
                for each, (job_id, _) in zip(arguments, expected, strict=True)
            ]
        )
        return await asyncio.wait_for(asyncio.gather(*(future for _, future in expected)), 120)

    async def close(self):
        if self.events is not None:
            await self.events.close()
        await self.queue.close()


async def work():
    worker = Worker("bench", process, {**OPTIONS, "concurrency": 10})
    await asyncio.Event().wait()
    await worker.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(work())
