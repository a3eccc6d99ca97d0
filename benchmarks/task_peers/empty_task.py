"""The task that is measured. It imports nothing, so that every side runs the same."""


def nothing() -> None:
    """Do nothing."""
