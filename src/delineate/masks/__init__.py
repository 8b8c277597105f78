"""Label arrays as shapes: outlines, components, surfaces, distances, topology, instances. No torch, no files."""

from delineate.masks.components import label_components, largest_component, without_small_components
from delineate.masks.distance import distance_map, nearest_distances
from delineate.masks.instances import instance_centroids
from delineate.masks.outlines import outlines
from delineate.masks.surfaces import Surface, border_voxels, bounding_box, surface_elements, surface_voxels
from delineate.masks.topology import Topology, centre_line, topology

__all__ = [
    "Surface",
    "Topology",
    "border_voxels",
    "bounding_box",
    "centre_line",
    "distance_map",
    "instance_centroids",
    "label_components",
    "largest_component",
    "nearest_distances",
    "outlines",
    "surface_elements",
    "surface_voxels",
    "topology",
    "without_small_components",
]
