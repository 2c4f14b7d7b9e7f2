"""The process that runs user code, with no connection to the store and no signing key."""
