"""concurrent.futures of the standard library."""

from concurrent.futures import ProcessPoolExecutor

import tasks


class Peer:
    def open(self):
        self.executor = ProcessPoolExecutor(2)

    def submit(self, count, bulk):
        if bulk:
            texts = [tasks.TEXT] * count
            return [self.executor.map(tasks.mark, range(count), texts, chunksize=100)]
        return [self.executor.submit(tasks.mark, number, tasks.TEXT) for number in range(count)]

    def gather(self, handles):
        return [each.result() if hasattr(each, "result") else list(each) for each in handles]

    def run(self, name, argument):
        return self.executor.submit(tasks.FUNCTIONS[name], argument).result(30)

    def map(self, name, arguments):
        return list(self.executor.map(tasks.FUNCTIONS[name], arguments))

    def close(self):
        self.executor.shutdown()
