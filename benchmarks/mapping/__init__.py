"""Functions mapped over whole rasters, beside what people write without Batuta."""
