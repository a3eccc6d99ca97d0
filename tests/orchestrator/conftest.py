from tests.cluster.conftest import warm_forkserver

__all__ = ["warm_forkserver"]
