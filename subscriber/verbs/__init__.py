"""The verbs of zmq-subscriber, one file per family; `base` says what a verb is."""
