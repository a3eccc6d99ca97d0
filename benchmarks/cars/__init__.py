"""CARS on its own orchestrator and on Batuta."""
