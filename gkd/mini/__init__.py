"""The embedded miniature suite: seeded street and overhead scenes at 1/8 of the paper's sizes."""
