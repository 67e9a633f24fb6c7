"""`python -m sdcli` is `sd`."""

from sdcli.cli import main

main()
