"""What an evaluation of a model can say: one value that holds it all, and one module per question.

evaluation          the whole: cases, table, and the answers below
subgroups           is it as good everywhere? (sites, scanners, sexes, sizes)
site_shift          what does a site cost that the training never saw?
volume_agreement    do volumes agree? (Bland, Altman)
thresholds          does it reach what is published or was declared?
model_comparison    is it better than another model?
rater_study         does it differ from people more than they differ among themselves?
trust_study         does it know when it is wrong?
"""

from delineate.metrics.evaluation.model_comparison import compare_models
from delineate.metrics.evaluation.subgroups import adjust_over_columns, compare_groups

__all__ = ["adjust_over_columns", "compare_groups", "compare_models"]
