"""Names."""

CROPPED_DISPARITY_RANGE = "cropped"
