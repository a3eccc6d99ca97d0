"""The mistakes of a product graph.

::

    ConfigurationError          (batuta.errors)
    └── GraphError
"""

from batuta.errors import ConfigurationError


class GraphError(ConfigurationError):
    """A product graph cannot be read, or has mistakes; `problems` has one line for each."""
