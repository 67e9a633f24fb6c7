"""`python -m sdcli` does what `sd` does."""

from sdcli.cli import main

main()
