from __future__ import annotations

import click

from sdcli.commands._streams import print_result
from sdcli.commands._types import Word
from sdcli.errors import UsageError

LINES = {
    "bash": 'eval "$(sd completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(sd completion zsh)"    in ~/.zshrc',
    "fish": "sd completion fish | source    in ~/.config/fish/config.fish",
}
"""Shell -> the line that switches completion on, and the file it belongs in."""


@click.command(epilog="\b\n" + "\n".join(LINES.values()))
@click.argument("shell", type=Word(tuple(LINES)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what SHELL (bash, zsh or fish) needs to complete commands, options, their values, and file names.

    It is switched on by one line in the shell's start-up file:
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if shell not in LINES or found is None:
        raise UsageError(f"no completion for {shell!r}; there is one for bash, zsh and fish")
    script = found(ctx.find_root().command, {}, "sd", "_SD_COMPLETE").source()
    print_result(script)
