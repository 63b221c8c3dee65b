"""GKD: generalizable knowledge distillation for semantic segmentation (arXiv 2603.02554).

The method itself is two files: `qsd` (heads and losses) and `distillation` (the training that uses them).
docs/development.md has the rooms in reading order.
"""
