"""The bars."""
