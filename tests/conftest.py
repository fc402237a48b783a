"""What every test has: tables of what was measured, at the end of a run."""

from support.tables import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
