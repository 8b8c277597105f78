"""DICOM in: series as volumes with a report of every trouble, structure sets and segmentations as label maps."""
