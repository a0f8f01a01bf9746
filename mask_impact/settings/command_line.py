"""The command line: from its words to a list of `Settings`, one per prompt."""

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mask_impact import __version__
from mask_impact.base.errors import RequestError
from mask_impact.settings import readers
from mask_impact.settings.option import UNREADABLE, Option, defaults, options, read_value
from mask_impact.settings.prompt_files import read_messages, read_prompt, stdin_has_data
from mask_impact.settings.readers import did_you_mean, quoted
from mask_impact.settings.text_settings import COMMAND_FLAGS, DEFAULT_PROMPT_FILE, Kind, Settings

GROUPS = {
    "prompt": "what to explain",
    "measure": "what to measure, and how",
    "model": "the model",
    "results": "results",
    "command": "the command",
}
DESCRIPTION = """\
Which earlier token does a language model's next token depend on, at which layer, through which head?
Removes one token at a time from one layer's attention and measures how the layer's update changes."""
EXAMPLES = """\
examples:
  {program} --model demo --prompt "The capital of France is"
  {program} --prompt-file question.txt --chat --num-tokens 5
  {program} --prompt "2 + 2 =" --continuation " 5" --layers 0-3,10
  {program} --config prompts_config.yaml

BATCH_MODE_GUIDE.md explains every flag, the batch file and the result files."""


def read(
    argv: Sequence[str] | None = None,
    program: str = "mask_impact_analysis.py",
    kind: type[Kind] = Settings,  # type: ignore[assignment]  # mypy knows no default of a type variable
    description: str = DESCRIPTION,
    examples: str = EXAMPLES,
) -> list[Kind]:
    """The settings of every enabled prompt that the command line asks for, in order.

    `argv` is `sys.argv[1:]` if None. Raises RequestError with all faults of the flags and of the batch file;
    SystemExit(0) after `--help` and `--version`.
    """
    parser = _parser(program, kind, description, examples)
    namespace, unrecognised = parser.parse_known_args(argv)
    # argparse turns --flag=-- into an empty list
    words_given = {
        name: ["--" if word == [] else word for word in words] for name, words in vars(namespace).items() if words
    }
    faults = _unrecognised_faults(unrecognised, parser, kind.OTHER_SCRIPT_KEYS) + _conflicts(words_given, options(kind))
    config = words_given.pop("config", [None])[-1]
    flags = {name: _value(words, options(kind)[name], faults) for name, words in words_given.items()}
    if config is not None:
        from mask_impact.settings import batch_file

        path = read_value(readers.path, config, "--config: ", faults)
        if path is UNREADABLE:
            raise RequestError(*faults)
        return batch_file.read(path, flags, kind, faults)
    if unrecognised:  # after a misspelt --prompt, looking for the default file would only add a misleading fault
        raise RequestError(*faults)
    return [_single(flags, kind, faults)]


def versions() -> str:
    """One line: this project, torch, transformers and Python, without importing the libraries."""
    parts = [f"mask-impact {__version__}"]
    for library in ("torch", "transformers"):
        try:
            parts.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{library} not installed")
    return ", ".join([*parts, f"Python {platform.python_version()}"])


class Parser(argparse.ArgumentParser):
    """A parser whose faults are RequestErrors."""

    def error(self, message: str) -> NoReturn:
        """Raise RequestError in place of ending the process."""
        hint = "; write --flag=VALUE where the value begins with a dash" if "expected one argument" in message else ""
        raise RequestError(f"{message.removeprefix('argument ')}{hint}; see --help")


def _parser(program: str, kind: type, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of all flags; each collects its values in a list, so that a flag given twice is noticed."""
    usage = "%(prog)s [--prompt TEXT | --prompt-file FILE | --messages FILE | --config FILE] [flags]"
    parser = Parser(
        prog=program,
        usage=usage,
        description=description,
        epilog=examples.format(program=f"python {program}" if program.endswith(".py") else program),
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    config, version = COMMAND_FLAGS
    flag, metavar = config.split()
    groups["prompt"].add_argument(flag, metavar=metavar, action="append", help=COMMAND_FLAGS[config])
    for name, row in options(kind).items():
        _add_flag(groups[row.group], name, row, defaults(kind).get(name))
    groups["command"].add_argument(version, action="version", version=versions(), help=COMMAND_FLAGS[version])
    groups["command"].add_argument("--help", "-h", action="help", help="print this and stop")
    return parser


def _add_flag(group: argparse._ArgumentGroup, name: str, row: Option, default: object) -> None:
    shown = row.default_shown or (",".join(default) if isinstance(default, tuple) else default)
    meaning = row.meaning + (f" (default: {shown})" if shown else "")
    meaning = meaning.replace("`", "").replace("%", "%%")
    if row.metavar:
        group.add_argument(row.flag, dest=name, metavar=row.metavar, action="append", help=meaning)
        return
    group.add_argument(row.flag, dest=name, action="append_const", const=True, help=meaning)
    if row.off_flag:
        group.add_argument(row.off_flag, dest=name, action="append_const", const=False, help=f"not {row.flag}")


def _unrecognised_faults(
    unrecognised: Sequence[str], parser: argparse.ArgumentParser, other_script_keys: Mapping[str, str]
) -> list[str]:
    """A fault for each unknown flag, not for its value; or else one for all words that belong to no flag."""
    known = [flag for action in parser._actions for flag in action.option_strings]
    faults = []
    for word in (word for word in unrecognised if word.startswith("-")):
        flag = word.split("=")[0]
        script = other_script_keys.get(flag.removeprefix("--").replace("-", "_"))
        faults.append(
            f"{flag} is a flag of {script}; run that"
            if script
            else f"unknown flag {quoted(word)}{did_you_mean(flag, known)}; see --help"
        )
    if unrecognised and not faults:
        words = ", ".join(map(quoted, unrecognised))
        faults.append(f"unexpected {words}; give the prompt with --prompt, in quotes if it has spaces")
    return list(dict.fromkeys(faults))


def _conflicts(words_given: Mapping[str, list[Any]], table: Mapping[str, Option]) -> list[str]:
    faults = []
    barred = [row.flag for name, row in table.items() if name in words_given and not row.with_config]
    if "config" in words_given and barred:
        faults.append(
            f"--config does not go with {', '.join(barred)}; write that into the file's entries, or leave --config out"
        )
    elif "prompt" in words_given and "prompt_file" in words_given:
        faults.append("--prompt does not go with --prompt-file; keep one of them")
    for name, words in words_given.items():
        if len(set(words)) > 1 and not (name in table and table[name].repeatable):
            flag = table[name].flag if name in table else "--config"
            given = f"and {table[name].off_flag}" if True in words else " and ".join(map(quoted, words))
            faults.append(f"{flag} {given}: two different values are given; keep one")
    return faults


def _value(words: list[Any], row: Option, faults: list[str]) -> Any:
    return read_value(row.from_flag, words, f"{row.flag}: ", faults)


def _single(flags: dict[str, Any], kind: type[Kind], faults: list[str]) -> Kind:
    """The settings of the one prompt that the flags ask for."""
    chosen = defaults(kind) | flags
    source, conversation = chosen["prompt_file"], chosen["messages"]
    asked = "prompt" in flags or source is not None or conversation is not None
    unasked = [] if asked else kind.faults_without_prompt(chosen)
    faults = faults + kind.contradictions(chosen | {"given": frozenset(flags)}) + unasked
    if (
        kind.takes_prompt(chosen)
        and "prompt" not in flags
        and UNREADABLE not in (source, conversation)
        and not unasked
        and not (faults and "-" in (source, conversation))
    ):
        try:
            chosen |= _prompt(source) if conversation is None else {"messages": read_messages(conversation)}
        except RequestError as error:
            faults += error.faults
    if faults:
        raise RequestError(*faults)
    return kind(**chosen, given=frozenset(flags), warnings=_warnings(flags, chosen["prompt_file"]))


def _warnings(flags: Mapping[str, Any], source: str | None) -> tuple[str, ...]:
    """Warnings about the prompt: a line break at its end; or text on standard input that nothing read, as no flag named
    a prompt and the default file `source` was taken."""
    if str(flags.get("prompt", "")).endswith(("\n", "\r")):
        kept = "the text ends in a line break, which is kept and can change the answer"
        return (f"--prompt: {kept}; leave it out if it is not meant",)
    if source is not None and "prompt_file" not in flags and stdin_has_data():
        return (f"the prompt is that of {source}, standard input was not read; to read it, add --prompt-file -",)
    return ()


def _prompt(source: str | None) -> dict[str, Any]:
    """The prompt in the file `source`, or in the default file if that is None. Raises RequestError if it is missing."""
    if source is None and not os.path.exists(DEFAULT_PROMPT_FILE):
        raise RequestError(
            f"no prompt is given and there is no {DEFAULT_PROMPT_FILE} in this folder; "
            "give one with --prompt TEXT or --prompt-file FILE"
        )
    source = DEFAULT_PROMPT_FILE if source is None else source
    return {"prompt_file": source, "prompt": read_prompt(source)}
