"""nbqueue, at its defaults."""

import os

import tasks

import nbqueue


def mark(number, text=""):
    import tasks

    return tasks.mark(number, text)


FUNCTIONS = {"mark": mark, "spin": tasks.spin, "echo": tasks.echo}


class Peer:
    def open(self):
        self.q = nbqueue.connect(os.environ["BENCH_URL"])

    def submit(self, count, bulk):
        if bulk:
            self.q.map(mark, range(count), [tasks.TEXT] * count)
            return
        for number in range(count):
            self.q.submit(mark, number, tasks.TEXT)

    def run(self, name, argument):
        return self.q.submit(FUNCTIONS[name], argument).result(30)

    def map(self, name, arguments):
        return self.q.map(FUNCTIONS[name], arguments).results(120)

    def close(self):
        self.q.close()
