"""The reference row: a decoder on the frozen teacher, whose segmentor guided methods follow."""

from gkd.methods import Row

ROW = Row(label="Teacher")
