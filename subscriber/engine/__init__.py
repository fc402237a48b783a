"""Which deliveries an event makes, and when each runs."""
