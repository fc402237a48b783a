"""The journal: signed events in the repository's store, written inside its transactions."""
