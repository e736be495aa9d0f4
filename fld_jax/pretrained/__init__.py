"""Weights trained elsewhere: readers, and how they fill our networks."""
