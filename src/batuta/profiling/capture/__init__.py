"""Measuring and profiling in a worker; the only part of profiling that `batuta.cluster` imports."""
