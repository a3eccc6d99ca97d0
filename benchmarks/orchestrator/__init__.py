"""What the orchestrator costs, against what one would use in its place.

Each module is a benchmark: `figures` returns its lines of the table, and the module itself, run
with ``python -m``, is the program that one side runs in a process of its own.
"""
