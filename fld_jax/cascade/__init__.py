"""What a method is once trained: stages, their forward pass, pseudo-labels."""
