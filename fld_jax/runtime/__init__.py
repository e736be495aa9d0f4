"""Devices, processes, checkpoints and the manifest of a run."""
