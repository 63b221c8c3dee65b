"""No distillation, and the student stays as it came, as distilled students do in task learning."""

from gkd.methods import Row

ROW = Row(label="No KD (frozen)")
