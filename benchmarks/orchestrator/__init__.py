"""What the orchestrator costs, against what one would use in its place."""
