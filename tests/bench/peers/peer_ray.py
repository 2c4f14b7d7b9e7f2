"""Ray."""

import tasks


class Peer:
    def open(self):
        import ray

        self.ray = ray
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=10**9,
        )
        functions = tasks.FUNCTIONS.items()
        self.remote = {name: ray.remote(num_cpus=1)(function) for name, function in functions}

    def submit(self, count, bulk):
        return [self.remote["mark"].remote(number, tasks.TEXT) for number in range(count)]

    def gather(self, handles):
        return self.ray.get(handles)

    def run(self, name, argument):
        return self.ray.get(self.remote[name].remote(argument), timeout=30)

    def map(self, name, arguments):
        return self.ray.get([self.remote[name].remote(each) for each in arguments])

    def close(self):
        self.ray.shutdown()
