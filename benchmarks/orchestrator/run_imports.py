"""Importing modules in a fresh interpreter: ``MODULE...``."""

import importlib
import sys
import time

if __name__ == "__main__":
    begun = time.perf_counter()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    took_s = time.perf_counter() - begun
    print(f'{{"time_s": {took_s}}}')  # nothing is imported for it
