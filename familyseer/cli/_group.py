"""A click group that imports a command when it is asked for, and keeps the exit codes' promise."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from familyseer._without_torch import leave_torch_out
from familyseer.errors import RunError, UserError

DEBUG_VARIABLE = "FAMILYSEER_DEBUG"


class CommandGroup(click.Group):
    """A group whose command ``x`` is the object ``command`` of the module ``familyseer.cli.x``.

    Exit codes: 0 done, 2 wrong use or unreadable input, 1 anything else. Both failures print one
    line on standard error; a traceback comes only where FAMILYSEER_DEBUG asks for it.

    Parameters
    ----------
    lazy
        Names of the commands, in the order in which the help lists them.
    """

    def __init__(self, *args: Any, lazy: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = tuple(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        command: click.Command = importlib.import_module(f"familyseer.cli.{cmd_name}").command
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def call() -> Any:
            return super(CommandGroup, self).main(
                args,
                prog_name or "familyseer",
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        if not standalone_mode:
            return call()
        if args is None:
            # this process is ours, and waits for no more than its command needs
            leave_torch_out()
        sys.exit(exit_code(call))


def exit_code(call: Callable[[], Any]) -> int:
    """Runs a command and gives the code to exit with, having told standard error what failed."""
    try:
        code = call()
        # a full disk or a closed pipe shows here, and not in the interpreter's last breath
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _fail(2, str(error))
    except RunError as error:
        return _fail(1, str(error))
    except click.UsageError as error:
        return _fail(2, f"{error.format_message()} {_help_hint(error.ctx)}")
    except click.ClickException as error:
        return _fail(2, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _fail(1, "interrupted")
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _silence_stdout()
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
    reason = (str(error).strip().splitlines() or ["no message"])[0]
    hint = f"({DEBUG_VARIABLE}=1 shows the traceback)"
    return _fail(1, f"{type(error).__name__}: {reason} {hint}")


def _fail(code: int, message: str) -> int:
    # stderr may be gone as well, and the exit code still counts
    with contextlib.suppress(OSError):
        click.echo(f"familyseer: {' '.join(message.split())}", err=True)
    return code


def _help_hint(ctx: click.Context | None) -> str:
    return f"(see {ctx.command_path if ctx else 'familyseer'} --help)"


def _silence_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter's exit does not trip on it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
