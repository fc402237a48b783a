"""Where events, positions, deliveries and receipts are kept."""
