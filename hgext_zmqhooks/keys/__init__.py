"""Key files and the zmq-keys command."""
