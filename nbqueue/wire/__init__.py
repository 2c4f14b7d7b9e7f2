"""Data in Redis, byte for byte: keys, hash fields, states, protobuf messages."""
