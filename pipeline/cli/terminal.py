"""Prints the command line's output: results alone on stdout, all else on stderr, errors in one line with an exit
code.
"""

import contextlib
import dataclasses
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

DONE, FAILURE, MISTAKE, INTERRUPTED = 0, 1, 2, 130
SIGNALS = 128  # added to a signal's number: the exit code after that signal
ARGUMENTS = "pipeline.arguments"  # in a context's meta: the arguments after the command's name
EXIT_CODES = "Exit codes: 0 done; 1 failure; 2 a mistake in the job, the options or the data; 130 interrupted, 129 by SIGHUP, 143 by SIGTERM."


@dataclass(frozen=True)
class OutputMode:
    """The output mode of one call of a verb."""

    json: bool
    quiet: bool
    debug: bool

    @contextlib.contextmanager
    def running(self) -> Iterator[Callable[[Any], None]]:
        """Yields the event handler of a run; meanwhile the output of libraries and workers goes to stderr."""
        from pipeline.cli.progress import listening

        if not self.debug:
            silence_warnings()
        with _only_results_on_stdout(), listening(quiet=self.quiet) as on_event:
            yield on_event

    def result(self, value: Any, text: Callable[[], str]) -> None:
        """Prints the result of the verb: one JSON object, or text for people."""
        if self.json:
            _show_json(plain(value))
        else:
            show(text())


@contextlib.contextmanager
def closing_errors_as_notes(saved: Sequence[object]) -> Iterator[None]:
    """After the result is `saved`, an error while closing resources becomes a line on stderr, not an error."""
    try:
        yield
    except Exception as error:  # whatever closing raises, the model is complete
        if not saved:
            raise
        from pipeline.formatting import error_line

        show(f"pipeline: the model is saved; closing failed: {error_line(error)}", err=True)


def show(text: str, *, err: bool = False) -> None:
    """Writes text for people to stdout or stderr: the only way for text that contains names, paths or messages from
    elsewhere.

    Control characters in it are escaped, so that no name can set a terminal's title, clipboard or colours.
    """
    from pipeline.formatting import for_terminal

    _write(for_terminal(text), err=err)


def _show_json(value: Any) -> None:
    """Writes one line of JSON to stdout, with control characters escaped; its meaning does not change."""
    from pipeline.formatting import json_for_terminal

    _write(json_for_terminal(json.dumps(value, ensure_ascii=False)))


def _write(text: str, *, err: bool = False) -> None:
    """PipelineError where stdout cannot be written, for example because its disk is full; later output is discarded."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        from pipeline.errors import PipelineError

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise PipelineError(f"stdout cannot be written: {error.strerror}") from error


def silence_warnings() -> None:
    """Keeps the warnings of libraries off the terminal, in this process and in the workers it starts.

    Facts for the user are emitted as events.  Loggers are silenced by pipeline.cluster.logs.
    """
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"


@contextlib.contextmanager
def _only_results_on_stdout() -> Iterator[None]:
    """Sends what is written to stdout to stderr, by child processes and by C code too, until the block ends."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def plain(value: Any) -> Any:
    """The value converted to JSON's types; numbers that JSON lacks (NaN, infinities) become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def run(command: click.Command, arguments: list[str], name: str = "pipeline") -> int:
    """Runs the command line and returns the exit code; an error is one line on stderr (with --json also an object).

    A group without a verb shows its help.
    """
    asked = arguments[:] or (["--help"] if isinstance(command, click.Group) else [])
    try:
        with command.make_context(name, asked) as context:
            context.meta[ARGUMENTS] = asked[:]
            command.invoke(context)
        return DONE
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except KeyboardInterrupt as error:
        return _interrupted(error, arguments, _notes_of(error))
    except click.ClickException as error:
        return _fail(_usage(error), MISTAKE, arguments)
    except BrokenPipeError:  # the reader of our output has exited (`pipeline describe data | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILURE
    except Exception as error:  # last resort: any other error becomes one line and exit code 1
        return _explain(error, arguments)


def _interrupted(error: KeyboardInterrupt, arguments: list[str], notes: list[str]) -> int:
    number = getattr(error, "number", None)  # of a signal that is not Ctrl-C's
    message, code = (str(error), SIGNALS + number) if number else ("interrupted", INTERRUPTED)
    return _fail(message, code, arguments, notes)


def _explain(error: Exception, arguments: list[str]) -> int:
    """Prints the error; with --debug also its traceback."""
    from pipeline.errors import PipelineError, interrupt_behind

    if (interrupt := interrupt_behind(error)) is not None:
        return _interrupted(interrupt, arguments, _notes_of(error))
    if "--debug" in arguments:
        import traceback

        show("".join(traceback.format_exception(error)).rstrip("\n"), err=True)
    if isinstance(error, PipelineError):
        return _fail(str(error), error.exit_code, arguments, _notes_of(error))
    hint = "" if "--debug" in arguments else "; run with --debug for the traceback"
    return _fail(f"{type(error).__name__}: {error}{hint}", FAILURE, arguments, _notes_of(error))


def flushed(code: int) -> int:
    """The exit code, once all output is written; FAILURE where it cannot be written: the disk is full."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python, which flushes again at exit
        if code == DONE:
            click.echo(f"pipeline: error: stdout cannot be written: {error.strerror}", err=True)
        return code or FAILURE
    return code


def leave(code: int) -> NoReturn:
    """Ends the process without waiting for threads, after all output is written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _notes_of(error: BaseException) -> list[str]:
    """The notes added to the error: how to resume."""
    return list(getattr(error, "__notes__", ()))


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "pipeline"
    return f"{error.format_message().rstrip('.')}. See '{command} --help'."


def _fail(message: str, code: int, arguments: list[str], notes: Sequence[str] = ()) -> int:
    from pipeline.formatting import without_secrets

    message = without_secrets(" ".join(message.split()))
    notes = [without_secrets(note) for note in notes]
    prefix = "pipeline: " if code > SIGNALS else "pipeline: error: "
    for line in (message, *notes):
        show(prefix + line, err=True)
        prefix = "pipeline: "
    if "--json" in arguments:
        error = {"message": message, "exit_code": code, **({"notes": list(notes)} if notes else {})}
        _show_json({"error": error})
    return code
