"""From a session batch to stored events."""
