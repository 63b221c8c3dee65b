"""`python -m gkd` is the `gkd` command."""

from gkd.cli import app

app(prog_name="gkd")
