"""The parts of an evaluation's report, one module per question; each gives sections of a document.

words       headline, findings, warnings
results     per structure: table, presence, strip plots, thresholds, sizes, all cases, definitions
groups      subgroups and sites that the training never saw
rivals      other models on the same cases
observers   several people per case
trust       does it know when it is wrong?
"""
