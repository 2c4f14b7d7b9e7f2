"""Every change of a task's state: one atomic script each, and what runs them."""
