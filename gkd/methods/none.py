"""No distillation: the student is fine-tuned with its decoder."""

from gkd.methods import Row

ROW = Row(label="No KD", frozen=False)
