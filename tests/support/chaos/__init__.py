"""Chaos: a whole orchestra in processes of its own, with faults from a seed.

`plan` says what goes wrong, `faults` does it, `graph` is what is made, `orchestra` the processes,
`verify` what must hold at the end, `report` what is told of it; `run` joins them.
"""
