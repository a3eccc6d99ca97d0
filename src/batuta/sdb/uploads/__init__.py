"""Uploads that are resumed after a cut, by the tus protocol 1.0."""
