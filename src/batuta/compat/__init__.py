"""Programs written for another orchestrator, run on this one."""
