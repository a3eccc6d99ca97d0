"""The charts of the page, drawn by Bokeh: each a function of the figures of a run."""
