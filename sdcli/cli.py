"""The command line, `sd`. Only this module turns an error into one line on stderr and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

import sdcli
from sdcli import registry
from sdcli.commands import IN_FORCE, SERVER
from sdcli.commands._interrupts import handle_interrupts, unwind
from sdcli.commands._streams import flush_standard_streams, open_standard_streams, print_note, print_result
from sdcli.errors import SdError, UsageError, WriteError, naming_options
from sdcli.notes import telling

if TYPE_CHECKING:
    from sdcli.settings_file import Setting

DEBUG = "sdcli.debug"  # the key in click's ctx.meta, which all contexts of one run share
MAY_BE_EMPTY = ("prompt", "negative")  # the prompt is checked where --unconditional is known
READER_LEFT = 141  # exit code: 128 + SIGPIPE


class Commands(click.Group):
    """The commands of the plugin folder, each with --debug; listing them imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(registry.names("commands"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in registry.names("commands"):
            return None
        command: click.Command = registry.find("commands", name)
        _add_debug_option(command)
        _refuse_empty_texts(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if ctx.resilient_parsing:  # a shell asks what completes the line
            return super().resolve_command(ctx, args)
        registry.check_name("commands", args[0].partition(":")[0])  # answers with the nearest command
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or isinstance(command, click.Group):
            return name, command, rest

        from sdcli.commands._words_elsewhere import in_our_words

        return name, command, in_our_words(command, rest)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, registry.describe("commands", name).summary) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _add_debug_option(command: click.Command) -> None:
    """Give a command and its subcommands --debug, once; their functions get no parameter for it."""
    if not any("--debug" in parameter.opts for parameter in command.params):
        command.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_remember_debug,
                help="Show the traceback of an error.",
            )
        )
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _add_debug_option(subcommand)


def _refuse_empty_texts(command: click.Command) -> None:
    """Let no text of a command and its subcommands be empty, except those of which no text is a value."""
    from sdcli.commands._types import Text

    for parameter in command.params:
        if parameter.type is click.STRING and parameter.name not in MAY_BE_EMPTY:
            parameter.type = Text()
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _refuse_empty_texts(subcommand)


def _remember_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG, False) or value


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.version_option(sdcli.__version__, prog_name="sd")
@click.option(
    "--server",
    metavar="URL",
    envvar="SD_SERVER",
    help="Let `sd serve` at this address draw, and save here [env: SD_SERVER].",
)
@click.option(
    "--token-file", metavar="FILE", help="File with the token that the server asks for, else SD_TOKEN."
)
@click.pass_context
def sd(ctx: click.Context, server: str | None, token_file: str | None) -> None:
    """Stable Diffusion for the terminal.

    \b
      sd txt2img "a red apple" --seed 7

    draws a picture with the embedded model and prints its path. `sd COMMAND --help` shows a command's options.
    """
    if server is not None:
        _draw_on(ctx, server, token_file)
    elif token_file is not None:
        raise UsageError(
            "--token-file is for --server, or stands behind serve; name the server with --server"
        )


def _draw_on(ctx: click.Context, server: str, token_file: str | None) -> None:
    """Let a server draw for the command; one that it cannot draw for works here if the server was not typed."""
    from sdcli.commands._remote import COMMANDS, Server, read_token

    if ctx.invoked_subcommand in COMMANDS:
        ctx.meta[SERVER] = Server(server.rstrip("/"), read_token(token_file))
    elif ctx.get_parameter_source("server") is click.core.ParameterSource.COMMANDLINE:
        raise UsageError(
            f"--server draws for {', '.join(COMMANDS)}; leave it out for {ctx.invoked_subcommand}"
        )


def main() -> NoReturn:
    """Run `sd` with the process's arguments and exit with its code."""
    handle_interrupts()
    open_standard_streams()
    # Idle OpenMP threads sleep instead of spinning: up to 30 times faster while another job uses the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "_SD_COMPLETE" in os.environ:
        with contextlib.suppress(SdError):  # such as settings that cannot be read: they complete nothing
            sd.main(prog_name="sd")  # a shell asks for completions; does not return
        sys.exit(1)
    unwind(True)
    code = run(sys.argv[1:])
    unwind(False)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process without taking its modules down, which takes torch 0.4 s; the system frees what they hold."""
    atexit._run_exitfuncs()
    flush_standard_streams()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run `sd` with these arguments; returns its exit code.

    An SdError becomes one line on stderr, after its traceback if --debug is given, and with --json an object on
    standard output too. Any other exception is a bug and is raised. This does not use `sd.main` because that answers
    a closed pipe with exit code 1.
    """
    with naming_options(), telling(print_note):
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    debug: list[bool] = []
    in_force: list[Setting] = []
    try:
        with sd.make_context("sd", list(arguments)) as context:
            try:
                sd.invoke(context)
            finally:
                debug += [True] if context.meta.get(DEBUG) else []
                in_force += context.meta.get(IN_FORCE, [])
        return 0
    except click.exceptions.Exit as exit_:  # --help and --version
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        return _print_help(error)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "sd"
        message = f"{error.format_message().rstrip('.')}; see {command} --help"
        return _fail(arguments, UsageError(message))
    except SdError as error:
        if debug:
            import traceback

            traceback.print_exc()
        if in_force:
            from sdcli.commands._settings import with_source

            error = with_source(error, in_force)
        return _fail(arguments, error)
    except (click.Abort, KeyboardInterrupt):
        from sdcli.commands._interrupted import Interrupted

        return _fail(arguments, Interrupted("interrupted; finished pictures are kept"))
    except BrokenPipeError:  # whoever read our output is gone
        return READER_LEFT


def _print_help(error: click.exceptions.NoArgsIsHelpError) -> int:
    try:
        print_result(error.format_message())
    except WriteError as failed:
        return _fail([], failed)
    except BrokenPipeError:
        return READER_LEFT
    return 0


def _fail(arguments: list[str], error: SdError) -> int:
    """Print the error as one line of printable characters on stderr, and where --json is given as an object on stdout.

    Returns the exit code.
    """
    line = " ".join(str(error).split())
    # A message may quote a file's own names, which may contain terminal escapes.
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    print_note(line)
    if wants_json(arguments) and not error.is_answered:
        import json

        failure = {"code": error.kind, "exit": error.code, "message": line}
        with contextlib.suppress(OSError, SdError):  # standard output may be what failed
            print_result(json.dumps({"error": failure}))
    return error.code


def wants_json(arguments: list[str]) -> bool:
    """True if --json is among the arguments as an option, even where others cannot be understood.

    It is not one as the value of another option, or after `--`.
    """
    command: click.Command | None = sd
    with_value = {"--server", "--token-file"}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return False
        if argument == "--json":
            return True
        if argument in with_value:
            next(rest, None)
        elif isinstance(command, click.Group) and not argument.startswith("-"):
            command = command.get_command(click.Context(command), argument.partition(":")[0])
            options = [each for each in command.params if isinstance(each, click.Option)] if command else []
            with_value = {flag for each in options if not each.is_flag for flag in each.opts}
    return False
