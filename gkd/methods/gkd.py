"""GKD as published (arXiv 2603.02554): QSD with one head, unscaled."""

from gkd.methods import Row
from gkd.qsd import qsd_objective

ROW = Row(label="GKD", attention=True)
objective = qsd_objective
