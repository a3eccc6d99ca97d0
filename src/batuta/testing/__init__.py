r"""For tests of pipelines and of what they make together: no service, no network, no waiting.

`make_product` makes one product; `MemoryOrchestra` has the real conductor decide, with an sdb in
memory, scripted failures and a clock that the test sets::

    from batuta.testing import MemoryOrchestra

    def test_what_fails_twice_is_made_at_the_third_attempt():
        with MemoryOrchestra(pipeline) as orchestra:
            orchestra.fail("STATISTICS", times=2)
            orchestra.deliver("READINGS", "run-1", b"value\n1\n3\n")
            orchestra.run()
            assert orchestra.attempts("STATISTICS", "run-1") == 3
            assert orchestra.sdb.get("OUTLIERS", "run-1").version == 1
"""

from batuta.pipeline.testing import MadeFile, MadeProduct, make_product
from batuta.testing.clock import FakeClock
from batuta.testing.memory_orchestra import Announcement, MemoryOrchestra
from batuta.testing.memory_sdb import MemorySdb, MemoryVersion

__all__ = [
    "Announcement",
    "FakeClock",
    "MadeFile",
    "MadeProduct",
    "MemoryOrchestra",
    "MemorySdb",
    "MemoryVersion",
    "make_product",
]
