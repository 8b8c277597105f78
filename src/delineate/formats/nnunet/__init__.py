"""nnU-Net's JSON files, translated at the edge: plans, fingerprint, dataset declaration, splits."""

from delineate.formats.nnunet.dataset_json import dataset_json, scheme_from_json
from delineate.formats.nnunet.fingerprint_json import (
    fingerprint_from_json,
    fingerprint_to_json,
    read_fingerprint,
    write_fingerprint,
)
from delineate.formats.nnunet.plans_json import plan_from_json, plan_to_json, read_plan, write_plan
from delineate.formats.nnunet.splits_json import read_splits, splits_from_json, splits_to_json, write_splits

__all__ = [
    "dataset_json",
    "fingerprint_from_json",
    "fingerprint_to_json",
    "plan_from_json",
    "plan_to_json",
    "read_fingerprint",
    "read_plan",
    "read_splits",
    "scheme_from_json",
    "splits_from_json",
    "splits_to_json",
    "write_fingerprint",
    "write_plan",
    "write_splits",
]
