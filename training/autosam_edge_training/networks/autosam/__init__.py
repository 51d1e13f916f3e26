"""AutoSAM Adapter, the teacher: SAM's image encoder made three-dimensional, with generated prompts.

One file is one box of the paper's figure 2.

Source: Li et al., Auto-Prompting SAM for Mobile Friendly 3D Medical Image Segmentation, arXiv 2308.14936.
Where the paper leaves something open, ``docs/adr/0015-teacher.md`` says how it is read.
"""
