"""RQ."""

import os

import redis
import tasks
from rq import Queue


class Peer:
    def __init__(self):
        self.queue = Queue("bench", connection=redis.Redis.from_url(os.environ["BENCH_URL"]))

    def open(self):
        self.queue.connection.ping()

    def submit(self, count, bulk):
        if bulk:
            arguments = [(number, tasks.TEXT) for number in range(count)]
            self.queue.enqueue_many([Queue.prepare_data(tasks.mark, each) for each in arguments])
            return
        for number in range(count):
            self.queue.enqueue(tasks.mark, number, tasks.TEXT)

    def _wait(self, job):
        result = job.latest_result(timeout=30)  # blocks on the job's stream of results
        if result is None or result.exc_string:
            raise RuntimeError(result and result.exc_string)
        return result.return_value

    def run(self, name, argument):
        return self._wait(self.queue.enqueue(tasks.FUNCTIONS[name], argument))

    def map(self, name, arguments):
        data = [Queue.prepare_data(tasks.FUNCTIONS[name], (each,)) for each in arguments]
        return [self._wait(job) for job in self.queue.enqueue_many(data)]

    def close(self):
        pass
