"""DeepFashion, FLD and the two retrieval benchmarks."""
