"""A worker's connections to the nodes of a cluster."""
