"""What commands ask of the conductor and of pipelines: which processings, and how they end."""
