"""Versions of the graph: what one would change, and what waits brought in line with it."""
