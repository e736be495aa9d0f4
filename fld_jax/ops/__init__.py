"""Operations on arrays: heatmaps, k-means and convolutions."""
