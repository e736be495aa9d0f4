"""The training loop, the train step, losses, schedules and checks."""
