"""The parts of an evaluation's report, one module per question; each gives sections of a document.

words       headline, findings, warnings
results     per structure: table, presence, strip plots, thresholds, sizes, definitions
case_table  all cases, one line each
groups      subgroups by the columns of a table
sites       what a site costs that the training never saw
rivals      other models on the same cases
observers   several people per case
trust       does it know when it is wrong?
"""
