"""Dramatiq."""

import os

import dramatiq
import tasks
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL, ENCODER = os.environ["BENCH_URL"], dramatiq.PickleEncoder()
dramatiq.set_encoder(ENCODER)
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL, encoder=ENCODER), store_results=True))
dramatiq.set_broker(broker)
ACTORS = {
    name: dramatiq.actor(function, actor_name=name, broker=broker)
    for name, function in tasks.FUNCTIONS.items()
}


class Peer:
    def open(self):
        broker.client.ping()

    def submit(self, count, bulk):
        if bulk:
            mark = ACTORS["mark"]
            dramatiq.group(mark.message(number, tasks.TEXT) for number in range(count)).run()
            return
        for number in range(count):
            ACTORS["mark"].send(number, tasks.TEXT)

    def run(self, name, argument):
        return ACTORS[name].send(argument).get_result(block=True, timeout=30_000)

    def map(self, name, arguments):
        sent = dramatiq.group(ACTORS[name].message(each) for each in arguments).run()
        return list(sent.get_results(block=True, timeout=120_000))

    def close(self):
        pass
