"""Holds, and the work that they keep back."""
