"""Profiler files of many workers, merged into one report."""
