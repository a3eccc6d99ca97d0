"""Advice on workers, tile size and memory, each with its reason in figures."""

from batuta.profiling.analysis.advice.memory import advise_memory
from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.advice.tiles import TileCosts, advise_tile_size
from batuta.profiling.analysis.advice.workers import WorkerUsage, advise_workers

__all__ = [
    "Advice",
    "TileCosts",
    "WorkerUsage",
    "advise_memory",
    "advise_tile_size",
    "advise_workers",
]
