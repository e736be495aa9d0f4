"""Prediction as an HTTP service."""
