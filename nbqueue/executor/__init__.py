"""The process that runs user code, without a store connection or signing key."""
