"""What every daemon shares: configuration, sockets, life, counters."""
