"""The settings of a vision-language run: those of a text run, and what pictures add."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mask_impact.settings import readers
from mask_impact.settings.option import UNREADABLE, option
from mask_impact.settings.text_settings import Settings, unit_faults

MASK_MODES = ("text", "vision", "both")
PARTS = ("decoder", "encoder")
PROMPT_SETTINGS = (
    "prompt",
    "prompt_file",
    "messages",
    "num_tokens",
    "continuation",
    "chat",
    "system",
    "thinking",
    "mask_mode",
    "knockout",
    "window",
    "knockout_steps",
    "head_cells",
)
ENCODER_TOO = (("mask_mode", "text"), ("knockout", ("none",)))  # what may be said of the encoder all the same
DESCRIPTION = """\
Which earlier word or image patch does a vision-language model's next token depend on, \
at which layer, through which head?
Removes one token at a time from one layer's attention and measures how the layer's update changes."""
EXAMPLES = """\
examples:
  {program} --model demo --image testimg.png --prompt "What color is the circle?" --mask-mode both --report
  {program} --image chart.png --prompt "Which bar is the tallest?" --mask-mode vision --max-image-tokens 576
  {program} --model demo --image testimg.png --part encoder --at 1,2 --report
  {program} --config prompts_config_vl.yaml

BATCH_MODE_GUIDE.md explains every flag, the batch file and the result files."""


def with_default(name: str, default: object, **columns: Any) -> Any:
    """The text run's setting of this name, with another default and these columns changed."""
    own = Settings.__dataclass_fields__[name].metadata["option"]
    return dataclasses.field(default=default, metadata={"option": dataclasses.replace(own, **columns)})


@dataclass(frozen=True, kw_only=True)
class VisionSettings(Settings):
    """One prompt's run with a vision-language model, or a run of its encoder, resolved and checked; see Settings."""

    DEMO: ClassVar[str] = "vision"
    OTHER_SCRIPT_KEYS: ClassVar[Mapping[str, str]] = {}

    chat: bool = with_default("chat", True)
    model: str = with_default("model", "Qwen/Qwen3-VL-2B-Instruct")
    image: tuple[str, ...] = option(
        "--image",
        readers.paths,
        "a picture, placed before the question; give it again for more of them, in their order",
        (),
        metavar="FILE",
        scope="prompt",
        group="prompt",
        default_shown="none",
        with_config=False,
        changes_numbers=False,
        repeatable=True,
        is_path=True,
    )
    mask_mode: str = option(
        "--mask-mode",
        readers.one_of(*MASK_MODES),
        "what to mask in turn: the `text` tokens, the `vision` tokens, or `both`",
        "text",
        metavar="MODE",
        scope="prompt",
        group="measure",
    )
    max_image_tokens: int = option(
        "--max-image-tokens",
        readers.whole_number,
        "the most tokens of each picture; a larger picture is made smaller",
        1024,
        metavar="N",
        scope="prompt",
        group="prompt",
    )
    part: str = option(
        "--part",
        readers.one_of(*PARTS),
        "what to measure: the `decoder`, or the vision `encoder`, which takes a picture and no prompt",
        "decoder",
        metavar="PART",
        scope="prompt",
        group="measure",
    )
    at: str | None = option(
        "--at",
        readers.optional(readers.cell),
        "the cell that is measured in the encoder: `ROW,COL`, `IMAGE:ROW,COL`, or `all` for the mean over all cells",
        None,
        metavar="CELL",
        scope="prompt",
        group="measure",
    )

    @staticmethod
    def takes_prompt(chosen: Mapping[str, Any]) -> bool:
        """Whether a prompt is asked for: the decoder reads one, the encoder pictures alone."""
        return chosen["part"] == "decoder"

    @staticmethod
    def inapplicable(chosen: Mapping[str, Any]) -> frozenset[str]:
        """The settings that mean nothing for the part that is measured."""
        return frozenset(PROMPT_SETTINGS) if chosen["part"] == "encoder" else Settings.inapplicable(chosen) | {"at"}

    @staticmethod
    def contradictions(chosen: Mapping[str, Any]) -> list[str]:
        """Faults of settings that do not go together: those of a text run, and of pictures, mask mode and part."""
        if chosen["part"] == "encoder":
            return encoder_faults(chosen) + unit_faults(chosen)
        faults = Settings.contradictions(chosen)
        if chosen["mask_mode"] in ("vision", "both") and chosen["image"] == ():
            faults.append(
                f"mask_mode {chosen['mask_mode']} needs a picture; "
                "add --image FILE (in YAML image: FILE), or mask the text"
            )
        if chosen["mask_mode"] == "text" and isinstance(chosen["units"], tuple) and "images" in chosen["units"]:
            faults.append(
                "units images needs the pictures masked, found mask_mode text; add --mask-mode both "
                "(in YAML mask_mode: both)"
            )
        if chosen["part"] == "decoder" and chosen["at"] not in (None, UNREADABLE):
            faults.append(
                f"at {chosen['at']} needs part encoder; add --part encoder (in YAML part: encoder) or leave at out"
            )
        return faults

    @staticmethod
    def faults_without_prompt(chosen: Mapping[str, Any]) -> list[str]:
        """The fault of a picture about which nothing is asked."""
        asked = chosen["part"] == "decoder" and chosen["image"] not in ((), UNREADABLE)
        return ["--image needs a question about it; ask with --prompt TEXT or --prompt-file FILE"] if asked else []

    @property
    def title(self) -> str:
        """What the name of the results is made of: the pictures, then the question or the measured cell."""
        stems = [Path(path).stem for path in self.image]
        return " ".join([*stems, "encoder", str(self.at)] if self.part == "encoder" else [*stems, self.question])


def encoder_faults(chosen: Mapping[str, Any]) -> list[str]:
    """Faults of settings that do not go with the encoder."""
    faults = []
    unused = [name for name in PROMPT_SETTINGS if name in chosen["given"] and (name, chosen[name]) not in ENCODER_TOO]
    if unused:
        faults.append(
            f"part encoder measures a picture alone and predicts nothing, found {', '.join(unused)}; "
            f"leave {'them' if unused[1:] else 'it'} out"
        )
    if chosen["image"] == ():
        faults.append("part encoder needs a picture; add --image FILE (in YAML image: FILE)")
    if chosen["at"] is None:
        faults.append(
            'part encoder needs the cell that is measured; add --at ROW,COL or --at all (in YAML at: "ROW,COL")'
        )
    return faults
