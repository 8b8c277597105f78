"""nnU-Net's self-configuration rules, one pure function each.

Every rule states its source: the function of nnU-Net 2.8.1 (Isensee et al., Nature Methods 18, 2021, and the ResEnc
presets of arXiv 2404.09556) whose result it equals. The rules know numbers only: no files, no torch.
"""
