"""`batuta demo`: the run, and its report."""
