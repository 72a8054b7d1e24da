"""`python -m schedcmp`."""

from schedcmp.cli import command

command()
