"""Celery."""

import os

import tasks
from celery import Celery, group

app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"])
app.conf.update(
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle"],
    worker_prefetch_multiplier=64,
    result_expires=86_400,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
)
TASKS = {name: app.task(name=name)(function) for name, function in tasks.FUNCTIONS.items()}


class Peer:
    def open(self):
        TASKS["mark"].apply_async((-1,), ignore_result=True)  # connects
        app.control.purge()

    def submit(self, count, bulk):
        if bulk:
            group(TASKS["mark"].s(number, tasks.TEXT) for number in range(count)).apply_async()
            return
        for number in range(count):
            TASKS["mark"].delay(number, tasks.TEXT)

    def run(self, name, argument):
        return TASKS[name].delay(argument).get(timeout=30)

    def map(self, name, arguments):
        return group(TASKS[name].s(each) for each in arguments).apply_async().get(timeout=120)

    def close(self):
        pass
