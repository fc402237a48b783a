"""What is wrong with a part of the configuration, before it is known where that part stands."""

Wrong = tuple[str, object, str, str]
"""A mistake: key, value, reason, hint."""
