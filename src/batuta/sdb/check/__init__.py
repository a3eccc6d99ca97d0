"""Compares the records of an sdb with the bytes that it keeps, and mends what differs.

No service need run, and one may: records are read first, and their bytes were stored before them.
"""

from batuta.sdb.check.check import Check, CheckOptions
from batuta.sdb.check.findings import Finding, Kind, Summary

__all__ = ["Check", "CheckOptions", "Finding", "Kind", "Summary"]
