"""The analysis of a profile: pure functions of the tables of a run."""
