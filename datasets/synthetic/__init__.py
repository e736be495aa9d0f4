"""Rendered garments with exact landmarks."""
