"""The charts of the page, drawn by Bokeh, each from the analysis of a profile."""
