"""The receiving side: verify, store, match, act, keep receipts."""
