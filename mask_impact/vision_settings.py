"""The settings of a vision-language run: those of a text run, and what pictures add."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mask_impact import values
from mask_impact.settings import UNREADABLE, Settings, option

MASK_MODES = ("text", "vision", "both")


def with_default(name: str, default: object) -> Any:
    """The setting of text runs of this name, with another default."""
    return dataclasses.field(default=default, metadata=Settings.__dataclass_fields__[name].metadata)


@dataclass(frozen=True, kw_only=True)
class VisionSettings(Settings):
    """One prompt's run with a vision-language model, resolved and checked; see Settings."""

    DEMO: ClassVar[str] = "vision"
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}

    chat: bool = with_default("chat", True)
    model: str = with_default("model", "Qwen/Qwen3-VL-2B-Instruct")
    image: tuple[str, ...] = option(
        "--image", values.paths, "a picture, placed before the question; give it again for more of them, in their order", (),
        metavar="FILE", scope="prompt", group="prompt", default_shown="none", with_config=False, changes_numbers=False,
        repeatable=True, is_path=True)
    mask_mode: str = option(
        "--mask-mode", values.one_of(*MASK_MODES), "what to mask in turn: the `text` tokens, the `vision` tokens, or `both`",
        "text", metavar="MODE", scope="prompt", group="measure")
    max_image_tokens: int = option(
        "--max-image-tokens", values.whole_number, "the most tokens of each picture; a larger picture is made smaller", 1024,
        metavar="N", scope="prompt", group="prompt")

    @staticmethod
    def contradictions(chosen: Mapping[str, object]) -> list[str]:
        faults = Settings.contradictions(chosen)
        if chosen["mask_mode"] in ("vision", "both") and chosen["image"] == ():
            faults.append(f"mask_mode {chosen['mask_mode']} needs a picture; add --image FILE (in YAML image: FILE), or mask the text")
        return faults

    @staticmethod
    def faults_without_prompt(chosen: Mapping[str, object]) -> list[str]:
        asked = chosen["image"] not in ((), UNREADABLE)
        return ["--image needs a question about it; ask with --prompt TEXT or --prompt-file FILE"] if asked else []

    @property
    def title(self) -> str:
        return " ".join([*(Path(path).stem for path in self.image), self.prompt])
