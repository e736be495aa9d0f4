"""Shared by the builders: rows, joined lists, shards, builders of folders."""
