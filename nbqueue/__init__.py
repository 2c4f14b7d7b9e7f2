"""Run any Python function from a notebook cell on durable background workers."""

__version__ = "0.1.0"
