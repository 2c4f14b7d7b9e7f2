"""ipyparallel."""

import tasks


class Peer:
    def open(self):
        import ipyparallel

        self.cluster = ipyparallel.Cluster(n=2, log_level=40)
        self.client = self.cluster.start_and_connect_sync(activate=False)
        self.view = self.client.load_balanced_view()
        self.view.retries = 0

    def submit(self, count, bulk):
        if bulk:
            texts = [tasks.TEXT] * count
            return [self.view.map_async(tasks.mark, range(count), texts, chunksize=1)]
        return [self.view.apply_async(tasks.mark, number, tasks.TEXT) for number in range(count)]

    def gather(self, handles):
        return [each.get() for each in handles]

    def run(self, name, argument):
        return self.view.apply_async(tasks.FUNCTIONS[name], argument).get(30)

    def map(self, name, arguments):
        return self.view.map_async(tasks.FUNCTIONS[name], arguments, chunksize=1).get(120)

    def close(self):
        self.client.close()
        self.cluster.stop_cluster_sync()
