"""`ProcessUsage`: CPU and memory of processes with their children."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


class ProcessUsage:
    """CPU (1.0 is one core) and memory in bytes, by process id, as last measured."""

    def __init__(self) -> None:
        self.by_pid: dict[int, tuple[float, int]] = {}
        # psutil measures CPU from one call to the next on one object.
        self._processes: dict[int, psutil.Process] = {}

    def measure(self, pids: Iterable[int]) -> None:
        """Measure these processes, each with its children. Ended ones are left out."""
        self.by_pid = {}
        for pid in pids:
            cpu, memory = 0.0, 0
            try:
                family = [psutil.Process(pid)]
                family += family[0].children(recursive=True)
                for each in family:
                    process = self._processes.setdefault(each.pid, each)
                    cpu += process.cpu_percent() / 100
                    memory += process.memory_info().rss
            except psutil.Error:
                continue
            self.by_pid[pid] = cpu, memory
        self._processes = {
            pid: each for pid, each in self._processes.items() if psutil.pid_exists(pid)
        }
