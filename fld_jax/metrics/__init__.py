"""Metrics, NumPy functions of arrays in image pixels."""
