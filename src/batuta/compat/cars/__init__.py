"""CARS, installed and unmodified, on this orchestrator.

``python -m batuta.compat.cars CARS-ARGUMENTS`` runs it. A program that calls CARS from Python
calls `batuta.compat.cars.hook.install_everywhere` before it imports anything of CARS.
"""
