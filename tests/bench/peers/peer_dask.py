"""Dask's distributed."""

import logging
import warnings

import tasks

warnings.filterwarnings("ignore")


class Peer:
    def open(self):
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        )
        self.client = Client(self.cluster)

    def submit(self, count, bulk):
        if bulk:
            return self.client.map(tasks.mark, range(count), [tasks.TEXT] * count, pure=False)
        return [
            self.client.submit(tasks.mark, number, tasks.TEXT, pure=False)
            for number in range(count)
        ]

    def gather(self, handles):
        return self.client.gather(handles)

    def run(self, name, argument):
        return self.client.submit(tasks.FUNCTIONS[name], argument, pure=False).result(timeout=30)

    def map(self, name, arguments):
        return self.client.gather(self.client.map(tasks.FUNCTIONS[name], arguments, pure=False))

    def close(self):
        self.client.close()
        self.cluster.close()
