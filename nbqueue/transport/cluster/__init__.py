"""Redis Cluster: which node holds which keys, and connections to its nodes."""
