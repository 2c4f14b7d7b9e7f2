"""What lies in Redis, byte for byte: key names, hash fields, states, protobuf messages. Pure."""
