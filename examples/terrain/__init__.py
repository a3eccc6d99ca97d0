"""From an elevation model to slopes and shades: see docs/how-to/make-a-slope-map.md."""
