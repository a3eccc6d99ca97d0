"""Batuta conducts scientific processing, from the arrival of data to the archived product."""

__version__ = "0.1.0"
