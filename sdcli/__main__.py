"""`python -m sdcli` does what `sd` does; both start here, and can be interrupted before anything is imported."""

from sdcli.commands._interrupts import handle_interrupts


def main() -> None:
    """Run `sd` with the process's arguments and exit with its code."""
    handle_interrupts()

    from sdcli import cli

    cli.main()


if __name__ == "__main__":
    main()
