"""The relay: follows journals and serves them to subscribers."""
