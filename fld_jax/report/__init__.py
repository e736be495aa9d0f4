"""The report: one HTML page on evaluated runs."""
