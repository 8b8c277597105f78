"""Voxel grids, resampling, cropping and padding, and their inverses. Knows no files, no torch, no labels' meaning."""
