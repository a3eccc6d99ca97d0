"""The orchestrator's clusters beside other ways to run tasks in processes of one machine."""
