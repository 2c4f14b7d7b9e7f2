"""Atomic changes of task state, and the code that runs them."""
