"""The door: `sd`. It alone turns an error into one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

import click

import sdcli
from sdcli import registry
from sdcli.errors import SdError


class Commands(click.Group):
    """The commands of the plugin folder; listing them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(registry.names("commands"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return registry.find("commands", name) if name in registry.names("commands") else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        registry.check_name("commands", args[0].partition(":")[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, registry.describe("commands", name).summary) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(sdcli.__version__, prog_name="sd")
def sd() -> None:
    """Stable Diffusion for the terminal.

    \b
      sd txt2img "a red apple" --seed 7

    draws a picture with the embedded model and prints its path. `sd COMMAND --help` tells the rest.
    """


def main() -> NoReturn:
    """Run `sd` with the process's arguments and exit with the code of the contract."""
    signal.signal(signal.SIGTERM, _terminated)
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # idle threads sleep: 30 times faster beside another job
    if "_SD_COMPLETE" in os.environ:
        sd.main(prog_name="sd")  # a shell asks for completions
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run `sd` with these arguments; returns its exit code. A bug keeps its traceback, and so does --debug."""
    try:
        with sd.make_context(
            "sd", list(arguments)
        ) as context:  # not sd.main: it answers a broken pipe with 1
            sd.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except SdError as error:
        return _said(str(error), error.code, "--debug" in arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        name = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "sd"
        return _said(f"{error.format_message().rstrip('.')}; see {name} --help", 2)
    except (click.Abort, KeyboardInterrupt):
        return _said("interrupted; finished pictures are kept", 130)
    except BrokenPipeError:  # the reader left: nothing more to say, and nowhere to say it
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _said(message: str, code: int, debug: bool = False) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    line = " ".join(message.split())
    line = "".join(
        c if c.isprintable() else repr(c)[1:-1] for c in line
    )  # a file's own names may hold anything
    with contextlib.suppress(OSError):
        print("sd:", line, file=sys.stderr)
    return code


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(143)
