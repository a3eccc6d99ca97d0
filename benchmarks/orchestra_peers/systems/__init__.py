"""How each system is started, told of an observation, and asked what it has archived."""
