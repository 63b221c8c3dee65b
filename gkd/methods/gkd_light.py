"""Ours: QSD whose keys and values are pooled over cells of 2 x 2 tokens, at a quarter of the cost."""

from functools import partial

from gkd.methods import Row
from gkd.qsd import qsd_objective

ROW = Row(label="GKD-light (ours)", attention=True)
objective = partial(qsd_objective, pool=2)
