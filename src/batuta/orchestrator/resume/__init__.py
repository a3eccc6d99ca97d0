"""The resume folder: what a run records so that the next one can go on from it."""
