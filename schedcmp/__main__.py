"""`python -m schedcmp`."""

from schedcmp.cli import main

main()
