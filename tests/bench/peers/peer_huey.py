"""Huey."""

import os

import tasks
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_URL"], notify_result=True)
TASKS = {name: huey.task(name=name)(function) for name, function in tasks.FUNCTIONS.items()}


class Peer:
    def open(self):
        huey.storage.conn.ping()

    def submit(self, count, bulk):
        for number in range(count):
            TASKS["mark"](number, tasks.TEXT)

    def run(self, name, argument):
        return TASKS[name](argument).get(blocking=True, timeout=30)

    def map(self, name, arguments):
        return TASKS[name].map(arguments).get(blocking=True, timeout=120)

    def close(self):
        pass
