"""Label arrays as shapes: outlines, components, surfaces, distances, topology, instances, skin. No torch, no files."""

from delineate.masks.cleanup import drop_small_pieces, keep_largest_piece
from delineate.masks.components import label_components, largest_component, without_small_components
from delineate.masks.distance import distance_map, nearest_distances
from delineate.masks.instances import instance_centroids
from delineate.masks.outlines import outlines
from delineate.masks.postprocessing import PostprocessingStep, postprocess
from delineate.masks.skin import skin_of
from delineate.masks.surfaces import Surface, border_voxels, bounding_box, surface_elements, surface_voxels
from delineate.masks.topology import Topology, centre_line, topology

__all__ = [
    "PostprocessingStep",
    "Surface",
    "Topology",
    "border_voxels",
    "bounding_box",
    "centre_line",
    "distance_map",
    "drop_small_pieces",
    "instance_centroids",
    "keep_largest_piece",
    "label_components",
    "largest_component",
    "nearest_distances",
    "outlines",
    "postprocess",
    "skin_of",
    "surface_elements",
    "surface_voxels",
    "topology",
    "without_small_components",
]
