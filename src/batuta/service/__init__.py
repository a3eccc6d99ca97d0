"""What every service is made with: REST, its database, its activity, its start and its end.

Import from the modules: a client of a service needs `batuta.service.client` alone, and must
not load a web framework for it.
"""
