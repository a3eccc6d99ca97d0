"""Not to be imported."""

raise RuntimeError("CARS's own orchestrator is imported")
