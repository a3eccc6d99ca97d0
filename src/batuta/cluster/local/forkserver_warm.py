"""Uses NumPy once, in the forkserver, for what it and the C library initialise on first use.

Once a large block has been freed, the C library reuses blocks up to that size instead of returning
each to the system (mallopt(3), M_MMAP_THRESHOLD, "dynamic"): the arrays of a tile get the pages of
the tile before.
"""

import numpy as np

np.empty(31 << 20, dtype=np.uint8)
