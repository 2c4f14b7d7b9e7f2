"""joblib and its loky."""

import tasks
from joblib import Parallel, delayed
from joblib.externals.loky import ProcessPoolExecutor


class Peer:
    def open(self):
        self.executor = ProcessPoolExecutor(max_workers=2)
        self.executor.submit(tasks.echo, 1).result()

    def submit(self, count, bulk):
        if bulk:  # blocks until all have run
            return Parallel(n_jobs=2)(delayed(tasks.mark)(n, tasks.TEXT) for n in range(count))
        return [self.executor.submit(tasks.mark, number, tasks.TEXT) for number in range(count)]

    def gather(self, handles):
        return [each.result() if hasattr(each, "result") else each for each in handles]

    def run(self, name, argument):
        return self.executor.submit(tasks.FUNCTIONS[name], argument).result(30)

    def map(self, name, arguments):
        return list(self.executor.map(tasks.FUNCTIONS[name], arguments))

    def close(self):
        self.executor.shutdown(wait=True, kill_workers=True)
