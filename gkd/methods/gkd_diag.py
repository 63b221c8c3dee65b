"""Ours: QSD with scaled logits and a learned bias on their diagonal: each token starts at its own place."""

from functools import partial

from gkd.methods import Row
from gkd.qsd import qsd_objective

ROW = Row(label="GKD-diag (ours)", attention=True)
objective = partial(qsd_objective, scaled=True, diagonal_bias=6.0)
