"""GKD: generalizable knowledge distillation for semantic segmentation (arXiv 2603.02554).

The method itself is two files: `qsd` (heads and losses) and `distillation` (the training that uses them). To read the
whole, from below, where each room imports only from those before it:

files, values, params: writing files whole, kinds of values, params.yaml checked.
data, datasets: how datasets are read, and one file a dataset; models, weights: encoders, and where weights come from.
train: rates and steps, loop, states of killed runs; qsd, methods, distillation: the method, and what it is compared to.
segmentation: decoders, task learning, evaluation; workspace: members of the pipeline; report: tables and figures.
doctor: faults of data; deploy: export and prediction; cli: the command. Apart: mini, which draws the embedded suite.
"""
