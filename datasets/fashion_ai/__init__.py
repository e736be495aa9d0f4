"""FashionAI (Tianchi 2018)."""
