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


BASH = """\
_sd_completion() {
    local IFS=$'\\n' i word begun type value
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do  # bash splits words at : and =, as in euler_a:eta=1
        word=${COMP_WORDS[i]}
        if ((i > 1)) && [[ $word == [:=]* || ${COMP_WORDS[i - 1]} == *[:=] ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    word=${words[${#words[@]} - 1]}
    begun=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
        plain) COMPREPLY+=("${value#"$begun"}") ;;
        file) compopt -o default 2>/dev/null ;;
        esac
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _SD_COMPLETE=bash_complete "$1" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *[:=] ]] || compopt -o nospace 2>/dev/null
}
complete -o nosort -F _sd_completion sd
"""
"""What bash evaluates. click's own drops names that come with file names, and does not know that bash splits words."""


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
    if shell == "bash":
        print_result(BASH.rstrip())
        return
    script = found(ctx.find_root().command, {}, "sd", "_SD_COMPLETE").source()
    print_result(script)
