"""The worker: leases tasks, has executors run them, and stores their outcomes.

A worker is a supervisor, which never runs user code, and its executors, which do nothing else.
"""
