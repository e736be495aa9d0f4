"""Trained methods: stages, their forward pass and their pseudo-labels."""
