"""What REST shows: each module reads, and none writes."""
