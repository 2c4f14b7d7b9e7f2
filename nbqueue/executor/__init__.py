"""The process that runs user code. It talks to its supervisor only: no store, no signing key."""
