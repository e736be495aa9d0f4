"""Features of garments, where they are taken from, and searching by them."""
