"""Changes of task state, each one atomic script, and the code that runs them."""
