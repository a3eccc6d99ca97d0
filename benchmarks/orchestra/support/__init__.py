"""What the benchmarks of the orchestra share: services, pipelines and bare loops."""
