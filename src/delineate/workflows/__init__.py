"""The order of things: one file per flow. The only room that sees all others; it holds no loop over voxels."""
