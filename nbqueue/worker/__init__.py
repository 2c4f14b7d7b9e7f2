"""The process that keeps promises: it leases tasks, has executors run them, and answers for them.

A worker is a supervisor, which never runs user code, and its executors, which do nothing else.
"""
