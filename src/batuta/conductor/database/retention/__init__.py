"""Old observations: dropped, and what stays of each."""
