"""Configs: one file an experiment, each with `get_config(arg)`."""
