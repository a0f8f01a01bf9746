"""The table of settings in BATCH_MODE_GUIDE.md, made from the settings themselves.

python -m mask_impact.settings.guide            # writes the table again
python -m mask_impact.settings.guide --check    # exits 1 with one line where it is another
"""

import re
import sys
from pathlib import Path

from mask_impact.settings import generated_files
from mask_impact.settings.option import Option, defaults, options
from mask_impact.settings.text_settings import COMMAND_FLAGS, Settings
from mask_impact.settings.vision_settings import VisionSettings

GUIDE = Path(__file__).parents[2] / "BATCH_MODE_GUIDE.md"
TABLE_MARKS = (
    "<!-- table of settings: python -m mask_impact.settings.guide -->",
    "<!-- end of the table of settings -->",
)


def guide_table(kind: type = VisionSettings) -> str:
    """The Markdown table of every flag and YAML key."""
    rows: list[tuple[str, ...]] = [(f"`{flag}`", "", "", "run", meaning) for flag, meaning in COMMAND_FLAGS.items()]
    rows += [_guide_row(name, row, defaults(kind).get(name)) for name, row in options(kind).items()]
    heading = ("flag", "YAML, Python", "default", "per", "meaning")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, ("---",) * len(heading), *rows))


def _guide_row(name: str, row: Option, default: object) -> tuple[str, ...]:
    flags = f"`{row.flag} {row.metavar}".rstrip() + "`" + (f", `{row.off_flag}`" if row.off_flag else "")
    names = f"`{name}`" if row.scope != "flag" else "" if row.group == "results" else f"Python `{name}`"
    names += f"; Python `{row.python}`" if row.python else ""
    per = row.per if name in options(Settings) else f"{row.per}, vision-language"
    return flags, names, row.default_shown or _shown(default), per, row.meaning


def _shown(default: object) -> str:
    if default is None or default is False:
        return "none" if default is None else "off"
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def with_table(guide: str) -> str:
    """The guide's text with the table between the two marks made anew."""
    first, last = TABLE_MARKS
    between = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    return between.sub(lambda _: f"{first}\n{guide_table()}\n{last}", guide)


if __name__ == "__main__":
    sys.exit(generated_files.write({GUIDE: with_table(GUIDE.read_text(encoding="utf-8"))}, sys.argv[1:]))
