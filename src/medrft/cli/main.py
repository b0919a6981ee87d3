"""The `medrft` command: lists its subcommands, and turns our errors into one line and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn, cast

import typer

from medrft import __version__
from medrft.cli import (
    audit,
    common,
    compare,
    curate,
    data,
    doctor,
    init,
    methods,
    repeat,
    rescore,
    rollouts,
    run,
    score,
    serve,
    study,
)
from medrft.errors import FULL, REFUSED, MedrftError, UserError, naming_extras
from medrft.masking import MaskedStream, mask_text

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""click's class of that name, which newer versions of typer hold under a private one."""
INTERRUPTED = 130
"""The exit status after Ctrl-C; typer returns it in place of the exception."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Reinforcement fine-tuning for open-ended medical visual question answering.",
    epilog="Research software, not a medical device.",
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Reinforcement fine-tuning for open-ended medical visual question answering."""
    if version:
        typer.echo(f"medrft {__version__}")
        raise typer.Exit


app.command("init")(init.init)
app.command("run")(run.run)
app.command("sft")(run.sft)
app.command("grpo")(run.grpo)
app.command("eval")(run.evaluate)
app.command("report")(run.report)
app.command("score")(score.score)
app.command("serve")(serve.serve)
app.command("audit")(audit.audit)
app.command("curate")(curate.curate)
app.command("compare")(compare.compare)
app.command("rescore")(rescore.rescore)
app.command("study")(study.study)
app.command("rollouts")(rollouts.rollouts)
app.command("doctor")(doctor.doctor)
app.command("methods")(methods.methods)
app.command("repeat")(repeat.repeat)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; exits 2 on a user's mistake, 1 on a failure of ours, 130 on Ctrl-C.

    Whatever is printed, other libraries' warnings and tracebacks included, goes through a mask for secrets.
    """
    sys.stdout, sys.stderr = cast("Any", MaskedStream(sys.stdout)), cast("Any", MaskedStream(sys.stderr))
    try:
        with naming_extras():
            status = app(standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except UsageError as error:
        _exit_unused(error)
    except typer.Abort:
        exit_with("stopped", status=INTERRUPTED)
    except UserError as error:
        exit_with(str(error), status=2)
    except MedrftError as error:
        exit_with(str(error), status=1)
    except OSError as error:
        if error.errno in REFUSED and error.filename:
            exit_with(
                f"cannot use {error.filename}: {error.strerror}; name another place, or change its rights", status=2
            )
        if error.errno not in FULL:
            raise
        where = f" at {error.filename}" if error.filename else ""
        exit_with(
            f"the disk is full{where}; make space, and a run goes on with the same command and --resume", status=1
        )
    except KeyboardInterrupt:
        exit_with(
            "interrupted; the same command goes on where it stopped (run, curate: with --resume)", status=INTERRUPTED
        )


def _exit_unused(error: Any) -> NoReturn:
    """A mistake in the words of a command, in one line with the command that explains them; no words: the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(2)
    path = error.ctx.command_path if error.ctx is not None else "medrft"
    exit_with(f"{error.format_message().rstrip('.')}; see: {path} --help", status=2)


def exit_with(message: str, *, status: int) -> NoReturn:
    """Print one line on standard error and exit."""
    sys.stderr.write(f"medrft: {common.terminal_safe(' '.join(mask_text(message).split()))}\n")
    sys.exit(status)
