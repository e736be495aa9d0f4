"""From a split to predictions, metrics and the files of an evaluation."""
