"""What all subcommands of `bimix` share: option types, config files, output, and errors turned into exit codes."""

import argparse
import dataclasses
import inspect
import json
import os
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_origin, get_type_hints

import tyro
from tyro import conf
from tyro.conf import arg

from bimixjax import __version__
from bimixjax._base import checks, sidecars
from bimixjax._base.checks import InputError
from bimixjax._base.files import read_text, require_local, write_text
from bimixjax._base.stopping import STOPPED, Stopped
from bimixjax.cli import progress, signals
from bimixjax.cli.options import QUOTING, SCALING, Names, Numbers, Stock, quoted

if TYPE_CHECKING:
    from rich.console import RenderableType

DONE, FAILED, BAD_INPUT = 0, 1, 2
JSON = (".json",)
TABLES = (".csv", ".parquet")
FIGURES = (".png", ".pdf", ".svg")
# In the folder of a token store, see `corpus.layout`, which is not imported for a name.
STORE = "store.json"
# Wide enough for the tables, where the output is not a terminal that says how wide it is.
WIDTH = 120

_ABOUT = (
    "Fit data-mixing laws to measured losses, predict, and optimize mixtures. "
    "`bimix --version` says which version this is."
)
_STYLE = (conf.UseAppendAction, conf.FlagCreatePairsOff, conf.OmitSubcommandPrefixes, conf.OmitArgPrefixes)

# Where None or a flag's name says it all, the help adds no "(default: None)".
File = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
Unit = Annotated[Literal["steps", "tokens"] | None, arg(metavar="{steps,tokens}", help_behavior_hint="")]
Flag = Annotated[bool, arg(help_behavior_hint="")]

# The suffixes of the files that options name.
Formats = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command found: `document` for machines, `screen` for people, `file` to be redirected as it is."""

    document: Any
    screen: Sequence["RenderableType"] = ()
    file: str = ""
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """The options that every command has.

    `formats` says which options name files to write, and their suffixes; `at_work`, what a terminal shows meanwhile,
    where the command does not show its progress itself.
    """

    formats: ClassVar[Formats] = {}
    at_work: ClassVar[str] = ""

    config: File = None
    """YAML file with values for options that are not given on the command line."""
    json: Flag = False
    """Print one JSON object instead of tables."""

    @property
    @abstractmethod
    def options_file(self) -> Path | None:
        """Where the options used are written."""

    @abstractmethod
    def work(self) -> Answer:
        """Do what the command is for."""

    def inputs(self) -> Iterable[Path]:
        """Return the files and folders that the options name and that are there, but for those to write."""
        stocks = {name for name, hint in get_type_hints(type(self), include_extras=True).items() if hint == Stock}
        for name in (each.name for each in dataclasses.fields(self) if each.name not in {*self.formats, "folder"}):
            value = getattr(self, name)
            several = value if isinstance(value, tuple) else (value,)
            yield from (path for each in several if (path := _input(each, named=name in stocks)) is not None)


@dataclass(frozen=True, kw_only=True)
class FileCommand(Command):
    """A command whose result may go into one file."""

    formats: ClassVar[Formats] = {"out": JSON}

    out: File = None
    """Write the result here; the options used are written beside it, as <name>.config.yaml."""

    @property
    def options_file(self) -> Path | None:
        """Beside the result."""
        return self.out and self.out.with_suffix(".config.yaml")


@dataclass(frozen=True, kw_only=True)
class FolderCommand(Command):
    """A command whose result is a folder, to which the options used are added as config.yaml."""

    if TYPE_CHECKING:  # each command declares it, at its place among the positional ones
        folder: Path

    @property
    def options_file(self) -> Path | None:
        """In the folder."""
        return self.folder / "config.yaml"


def run(commands: Mapping[str, type[Command]], arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; input errors are one line on stderr."""
    if list(arguments) == ["--version"]:
        print(f"bimix {__version__}")
        return DONE
    try:
        command = _parse(commands, list(arguments))
        _check_outputs(command)
        with (
            sidecars.recording(shlex.join(["bimix", *arguments]), command.inputs()),
            progress.counted(command.at_work) if command.at_work and not command.json else nullcontext(),
        ):
            answer = command.work()
        _write_config(command, next(name for name, kind in commands.items() if kind is type(command)))
        _print(answer, as_json=command.json)
        return FAILED if answer.failed else DONE
    except Stopped as stop:
        print(f"bimix: {stop} (exit code {stop.code})", file=sys.stderr)
        return STOPPED
    except SystemExit as end:
        # What tyro prints in place of running a command, such as a completion, ends without a code.
        return DONE if end.code is None else end.code if isinstance(end.code, int) else BAD_INPUT
    except InputError as error:
        print(f"bimix: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader of stdout (`| head`) has gone; what is left in the buffer must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        print(f"bimix: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(signals.INTERRUPTED, file=sys.stderr)
        return FAILED


def _input(value: object, *, named: bool) -> Path | None:
    """Return an option's value as an input that is there: a path, or, where it may be `named` so, a text.

    A token store is known by its sidecar, which holds the hashes of its tokens.
    """
    path = value if isinstance(value, Path) else Path(value) if named and isinstance(value, str) else None
    if path is None or not os.access(path, os.R_OK):
        return None
    store = path / STORE
    return store if store.is_file() else path


def _parse(commands: Mapping[str, type[Command]], arguments: list[str]) -> Command:
    chosen = arguments[0] if arguments and arguments[0] in commands else None
    defaults: dict[str, Any] = {}
    if chosen:
        arguments, defaults = _with_config(chosen, commands[chosen], arguments[1:])
        arguments = [chosen, *arguments]
    kinds = []
    for name, kind in commands.items():
        about = inspect.getdoc(kind) or ""
        if name != chosen:
            kinds.append(Annotated[kind, conf.subcommand(name, description=about.partition("\n\n")[0])])
            continue
        # What the command does, an example, and how numbers and, where it takes any, lists of names are written.
        hints = get_type_hints(kind, include_extras=True).values()
        syntax = f"{SCALING} {QUOTING}" if {Names, Numbers, Stock} & set(hints) else SCALING
        kinds.append(Annotated[kind, conf.subcommand(name, description=f"{about}\n\n{syntax}", **defaults)])
    any_of: Any = Union[tuple(kinds)]  # noqa: UP007 - `|` takes no tuple
    return tyro.cli(any_of, prog="bimix", description=_ABOUT, args=arguments, config=_STYLE)


def _with_config(name: str, kind: type[Command], arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Put the options of the config file, if any, before those given, which win; positional ones become defaults."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(arguments)[0].config
    if path is None:
        return arguments, {}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    # An option whose name is a word of Python has a field with a bar behind it.
    spelled = {field.rstrip("_"): field for field in fields}
    options = {spelled[key]: value for key, value in _read_config(path, name, list(spelled)).items()}
    hints = get_type_hints(kind, include_extras=True)
    positional = [key for key, hint in hints.items() if conf.Positional in getattr(hint, "__metadata__", ())]
    given: dict[str, Any] = {}
    for key in positional:
        value = options.pop(key, None)
        several = get_origin(hints[key].__origin__) is tuple
        paths = value if several and isinstance(value, list) else [value]
        if value is not None and not all(isinstance(each, str) for each in paths):
            raise InputError(f"{path}: {key} is {value!r}; allowed: a path")
        given |= {} if value is None else {key: tuple(map(Path, paths)) if several else Path(paths[0])}
    flags = [flag for key, value in options.items() for flag in _flags(path, key, value, fields[key].default)]
    absent = {key: tyro.MISSING for key, field in fields.items() if field.default is dataclasses.MISSING}
    return [*flags, *arguments], {"default": kind(**absent | given)} if given else {}


def _read_config(path: str, command: str, known: list[str]) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(read_text(path)) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        # What YAML takes for a number, a date or a key may be none to Python.
        raise InputError(f"{path}: not YAML that can be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds {type(found).__name__}; a mapping of options to values belongs here")
    if found.pop("command", command) != command:
        raise InputError(f"{path}: its options are of another command than `bimix {command}`")
    found.pop("version", None)
    options = {str(key).replace("-", "_"): value for key, value in found.items()}
    checks.known("option", list(options), known, path)
    for key, value in options.items():
        _check_option(key, value, path)
    return options


def _check_option(key: str, value: Any, path: str) -> None:
    """Raise unless a value can be that of an option: a number, a text, true or false, or a flat list or mapping."""
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
    for part in parts:
        plain = part is None or isinstance(part, bool | float) or (isinstance(part, int) and abs(part) < 10**100)
        if not plain and not (isinstance(part, str) and part.isprintable()):
            allowed = "numbers, plain texts, true, false, and flat lists and mappings of them"
            raise InputError(
                f"{path}: {key} has a {type(part).__name__} that is no value of an option; allowed: {allowed}"
            )


def arguments(command: Command, without: Collection[str]) -> list[str]:
    """Return the arguments that make a command what it is, but for some options: what differs from its defaults."""
    hints = get_type_hints(type(command), include_extras=True)
    first, rest = [], []
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if conf.Positional in getattr(hints[field.name], "__metadata__", ()):
            first += [str(value)]
        elif field.name not in without and value != field.default:
            given = list(value) if isinstance(value, tuple) else value
            rest += _flags("", field.name, given, field.default)
    return [*first, *rest]


def _flags(config: str, key: str, value: Any, default: object) -> list[str]:
    option = key.rstrip("_").replace("_", "-")
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{config}: {key} is {value!r}; allowed: true or false")
        return [] if value == default else [f"--no-{option}" if default else f"--{option}"]
    if value is None:
        return []
    if isinstance(value, dict):
        value = [quoted(f"{name}={count}") for name, count in value.items()]
    return [f"--{option}={item}" for item in (value if isinstance(value, list) else [value])]


def _check_outputs(command: Command) -> None:
    if isinstance(command, FolderCommand) and command.folder is not None:
        require_local(command.folder)
    for option, suffixes in command.formats.items():
        path = getattr(command, option)
        if path is not None:
            checks.choice(f"--{option} {path}: the suffix", path.suffix, suffixes)
            checks.writable(path)


def _write_config(command: Command, name: str) -> None:
    path = command.options_file
    if path is None:
        return
    import yaml

    document: dict[str, Any] = {"command": name, "version": __version__}
    for key in (field.name for field in dataclasses.fields(command) if field.name not in ("config", "json")):
        value = getattr(command, key)
        plain = [str(each) if isinstance(each, Path) else each for each in (value if type(value) is tuple else [value])]
        document[key.rstrip("_")] = plain if isinstance(value, tuple) else plain[0]
    write_text(path, yaml.safe_dump(document, sort_keys=False))


def _print(answer: Answer, *, as_json: bool) -> None:
    from bimixjax._base.records import to_plain

    if as_json:
        print(json.dumps(to_plain(answer.document), allow_nan=False))
        return
    if answer.file:
        print(answer.file, end="")
        return
    from rich.console import Console

    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if narrow else WIDTH, highlight=False, markup=False)
    for part in answer.screen:
        # What must not be wrapped is the text of a file: its lines stay whole on any screen.
        console.print(part, soft_wrap=getattr(part, "no_wrap", None) is True)
