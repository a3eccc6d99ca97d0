"""Adapters that run programs written for other orchestrators on this one."""
