"""What a run stands on: devices, processes, checkpoints and its manifest."""
