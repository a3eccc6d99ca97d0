"""The common parts of all services: REST, database, activity, start and shutdown.

Import from the modules: a client of a service needs `batuta.service.client` alone, and must
not load a web framework for it.
"""
