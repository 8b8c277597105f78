"""Universal anatomy as tables: tasks, their sub-models, and what is known of every structure.

The tables describe which models TotalSegmentator 2.18 publishes and how their labels are numbered (facts only: names,
ids, class order, spacings, crop margins). They lie beside this module as JSON and CSV.
"""

from delineate.planning.anatomy.expectations import expectations
from delineate.planning.anatomy.structures import Code, StructureFacts, facts_of, structure_facts
from delineate.planning.anatomy.tasks import (
    LICENCES,
    Cleanup,
    Licence,
    RoughCrop,
    SubModel,
    Task,
    Variant,
    VariantName,
    models_needed,
    rough_crop,
    task_named,
    tasks,
)

__all__ = [
    "LICENCES",
    "Cleanup",
    "Code",
    "Licence",
    "RoughCrop",
    "StructureFacts",
    "SubModel",
    "Task",
    "Variant",
    "VariantName",
    "expectations",
    "facts_of",
    "models_needed",
    "rough_crop",
    "structure_facts",
    "task_named",
    "tasks",
]
