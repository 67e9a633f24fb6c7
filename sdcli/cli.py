"""The command line, `sd`. Only this module turns an error into one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import click

import sdcli
from sdcli import registry
from sdcli.errors import SdError

DEBUG = "sdcli.debug"  # the key in click's ctx.meta, which all contexts of one run share
INTERRUPTED, TERMINATED, READER_LEFT = 130, 143, 141  # exit codes: 128 + SIGINT, SIGTERM, SIGPIPE


class Commands(click.Group):
    """The commands of the plugin folder, each with --debug; listing them imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(registry.names("commands"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in registry.names("commands"):
            return None
        command: click.Command = registry.find("commands", name)
        _add_debug_option(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        registry.check_name("commands", args[0].partition(":")[0])  # answers with the nearest command
        return super().resolve_command(ctx, args)

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


def _remember_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG, False) or value


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(sdcli.__version__, prog_name="sd")
def sd() -> None:
    """Stable Diffusion for the terminal.

    \b
      sd txt2img "a red apple" --seed 7

    draws a picture with the embedded model and prints its path. `sd COMMAND --help` shows a command's options.
    """


def main() -> NoReturn:
    """Run `sd` with the process's arguments and exit with its code."""
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    # Idle OpenMP threads sleep instead of spinning: up to 30 times faster while another job uses the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "_SD_COMPLETE" in os.environ:
        sd.main(prog_name="sd")  # a shell asks for completions; does not return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `sd` with these arguments; returns its exit code.

    An SdError becomes one line on stderr, after its traceback if --debug is given. Any other exception is a bug and
    is raised. This does not use `sd.main` because that answers a closed pipe with exit code 1.
    """
    try:
        with sd.make_context("sd", list(arguments)) as context:
            try:
                sd.invoke(context)
            except SdError as error:
                if context.meta.get(DEBUG):
                    traceback.print_exc()
                return _fail(str(error), error.code)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as exit_:  # --help and --version
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "sd"
        return _fail(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; finished pictures are kept", INTERRUPTED)
    except BrokenPipeError:  # whoever read our output is gone; Python would complain when it flushes at exit
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT


def _fail(message: str, code: int) -> int:
    """Print the message as one line of printable characters on stderr; returns the code."""
    line = " ".join(message.split())
    # A message may quote a file's own names, which may contain terminal escapes.
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    with contextlib.suppress(OSError):
        print("sd:", line, file=sys.stderr)
    return code


def _exit_on_sigterm(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)
