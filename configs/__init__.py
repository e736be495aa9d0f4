"""Configs of experiments: files with a function `get_config(arg)` each."""
