"""TFDS builders, one folder a data set; all write the record of schema.py."""
