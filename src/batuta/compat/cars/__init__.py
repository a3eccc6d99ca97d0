"""Runs the installed, unmodified CARS on this orchestrator.

The command is ``python -m batuta.compat.cars CARS-ARGUMENTS``. A program that uses CARS from
Python calls `batuta.compat.cars.hook.install_everywhere` before it imports anything of CARS.
"""
