"""The lowest modules."""
