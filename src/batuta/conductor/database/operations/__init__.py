"""Operators' orders: one processing or product, or sets of them."""
