"""Stores that are a Redis Cluster."""
