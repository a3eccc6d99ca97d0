"""What was decided and heard, on disk, and reading it: every method works in a transaction."""
