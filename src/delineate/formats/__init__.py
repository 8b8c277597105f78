"""Files: images, dataset folders, prepared cases, model packages. The only room that knows file names and formats."""

from delineate.formats.images import read_image, read_labels, write_image, write_labels

__all__ = ["read_image", "read_labels", "write_image", "write_labels"]
