"""Fashion-landmark detection in JAX: the DFA cascade and its baselines."""
