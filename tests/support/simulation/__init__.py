"""Deterministic simulation: services on a virtual clock, network and disk, driven by a seed.

What runs is the product: conductor, sdb and a pipeline's service, with nats-py's, aiohttp's and
httpx's interfaces as the seams. `docs/decisions` says why.
"""
