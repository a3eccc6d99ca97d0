"""Examples of Batuta: graphs, pipelines and the demonstration."""
