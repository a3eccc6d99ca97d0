"""The mistakes of a product graph.

::

    ConfigurationError          (batuta.errors)
    └── GraphError
"""

from batuta.errors import ConfigurationError


class GraphError(ConfigurationError):
    """A product graph cannot be read, or is wrong; `problems` holds one line per mistake."""
