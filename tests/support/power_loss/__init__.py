"""What a loss of power leaves on a disk: recorded writes, of which what was not synced is dropped.

`recorder` records what a service does to a folder and what it says meanwhile, `disk` makes of that
what may be left at any moment, `points` lists the moments, and `scenarios` play the services and
say what must hold of what is left.
"""
