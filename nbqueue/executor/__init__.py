"""The process that runs user code. It has no connection to the store and no signing key."""
