"""GKD: generalizable knowledge distillation for semantic segmentation (arXiv 2603.02554)."""
