"""Campaigns: planned, claimed in rounds."""
