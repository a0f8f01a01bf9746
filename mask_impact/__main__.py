"""Commands for existing results: show, compare, make a report, export to another format.

python -m mask_impact show output/capital --step 0 --variant Full
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from mask_impact.base import console, terminal
from mask_impact.base.errors import RequestError, RunError, as_run_error
from mask_impact.base.formats import FORMATS
from mask_impact.settings import readers
from mask_impact.settings.command_line import Parser, versions

DESCRIPTION = """\
Shows, compares and converts existing results. RESULT is a result file, a run file, or a name such as output/capital."""
EXAMPLES = """\
examples:
  python -m mask_impact show output/capital_results.csv --step 0 --variant Full
  python -m mask_impact show output/capital --variant Head_3 --top 5 --json
  python -m mask_impact compare output/capital output/capital_rerun --metric cosine
  python -m mask_impact report output/capital
  python -m mask_impact export output/capital_results.csv --to parquet

BATCH_MODE_GUIDE.md has a section on these commands. NO_COLOR switches the colours off."""


def read(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line; raises RequestError for a wrong one, SystemExit(0) after --help and --version."""
    form: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
        "epilog": EXAMPLES,
    }
    parser = Parser(prog="python -m mask_impact", description=DESCRIPTION, **form)
    parser.add_argument("--version", action="version", version=versions(), help="print versions and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, *results: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=f"{help.capitalize()}.", **form)
        for result in results:
            added.add_argument(
                result, metavar=result.upper(), help="a result file, a run file, or a name such as output/capital"
            )
        return added

    shown = "print what the answer rests on, and of one step and variant what moves the layers most and a block picture"
    show = command("show", shown, "result")
    show.add_argument("--step", metavar="K", action=Once, type=step_number, help="generation step (default: the first)")
    show.add_argument(
        "--variant", metavar="NAME", action=Once, help="Full, Attn, Head_0, ... (default: the first there is)"
    )
    show.add_argument("--top", metavar="N", action=Once, type=count, default=10, help="how many tokens (default: 10)")
    show.add_argument("--json", dest="as_json", action="store_true", help="print the lists as JSON, for scripts")
    show.add_argument("--unit", metavar="KIND", action=Once, help="words, spans, ... (default: the first there is)")
    compare = command("compare", "print where two results of the same shape differ, and by how much", "a", "b")
    whole = "print every column of a long picture"
    show.add_argument("--all", action="store_true", help=whole)
    whole = "print every variant, layer and changed token, and not the largest changes alone"
    compare.add_argument("--all", action="store_true", help=whole)
    for each in (show, compare):
        help = "which distance (default: l2); interaction: of pairs of units"
        each.add_argument("--metric", action=Once, choices=("l2", "cosine", "interaction"), default="l2", help=help)
    report = command("report", "write {name}_report.html, the page that shows a result, beside it", "result")
    export = command("export", "write a result, with its knock-outs, in another format, beside it", "result")
    export.add_argument("--to", metavar="FORMAT", action=Once, choices=FORMATS, required=True, help=", ".join(FORMATS))
    for each in (report, export):
        each.add_argument("--overwrite", action="store_true", help="replace an existing file")
    return parser.parse_args(argv)


class Once(argparse.Action):
    """A flag that may not be given twice with different values."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, flag: str | None = None
    ) -> None:
        """Keep the value; a fault where another was given."""
        given = namespace.__dict__.setdefault("given", {})
        if given.setdefault(flag, value) != value:
            parser.error(f"{flag} {given[flag]!r} and {value!r}: two different values are given; keep one")
        setattr(namespace, self.dest, value)


def count(word: str) -> int:
    """A flag's whole number, from 1 on."""
    try:
        return readers.whole_number(readers.number_in_flag(word))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def step_number(word: str) -> int:
    """A flag's generation step, a whole number from 0 on."""
    number = readers.number_in_flag(word)
    if not isinstance(number, int) or number < 0:
        raise argparse.ArgumentTypeError(f"expected a generation step, counted from 0, found {readers.quoted(word)}")
    return number


def main(argv: Sequence[str] | None = None, screen: terminal.Screen = terminal.Screen()) -> int:
    """Run one command and return the exit code; `screen` is what standard output can show."""
    try:
        asked = read(argv)
        answer(asked, screen)
    except RequestError as error:
        raise RequestError(*map(screen.safe, error.faults)) from None
    except (RunError, MemoryError, OSError) as error:
        raise RunError(screen.safe(str(as_run_error(error)))) from error
    return console.SUCCESS


def answer(asked: argparse.Namespace, screen: terminal.Screen) -> None:
    """Run the command asked for. Modules that read tables are imported here, so that a wrong flag is answered first."""
    from mask_impact.lookup import find
    from mask_impact.lookup import show as lookup

    if asked.command == "compare":
        from mask_impact.lookup import compare as comparison

        comparison.compare(find.find(asked.a), find.find(asked.b), screen, asked.metric, asked.all)
    elif asked.command == "export":
        from mask_impact.lookup import export as exporting

        exporting.export(find.find(asked.result), asked.to, screen, asked.overwrite)
    elif asked.command == "report":
        lookup.report(find.find(asked.result), screen, asked.overwrite)
    else:
        lookup.show(
            find.find(asked.result),
            screen,
            step=asked.step,
            variant=asked.variant,
            top=asked.top,
            metric=asked.metric,
            unit=asked.unit,
            as_json=asked.as_json,
            whole=asked.all,
        )


if __name__ == "__main__":
    screen = terminal.Screen.of(sys.stdout)  # before console makes every stream UTF-8
    console.leave(console.exit_code(lambda: main(None, screen)))
