"""What the measures of a run tell: pure functions over its tables."""
