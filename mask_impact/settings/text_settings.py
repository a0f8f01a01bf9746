"""The settings of one prompt's run, and the one table that flags, YAML keys and the guide are made from.

Every field of `Settings` that is a setting carries an `Option` in its metadata. A front door with more settings
subclasses `Settings` and adds fields in the same form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeGuard, TypeVar

from mask_impact.base.errors import RequestError
from mask_impact.base.file_names import check_name
from mask_impact.base.formats import FORMATS
from mask_impact.settings import readers
from mask_impact.settings.option import RECORDED, UNREADABLE, defaults, option, options, read_value, unknown
from mask_impact.settings.prompt_files import read_prompt
from mask_impact.settings.readers import Message

VARIANTS = ("full", "attn", "heads")
UNIT_KINDS = ("tokens", "words", "sentences", "lines", "messages", "images", "spans")
CUTS = ("all", "final", "heads", "first_order")
CUTS_OF = {"window": ("final",), "knockout_steps": CUTS[1:], "head_cells": ("heads",)}  # which these settings are of
DEFAULT_PROMPT_FILE = "prompt.txt"
COMMAND_FLAGS = {  # flags of the command that are no settings: a front door reads them itself
    "--config FILE": "run every enabled entry of a batch file",
    "--version": "print the versions of this project and of its libraries, and stop",
}

MAY_BE_IDS = ("prompt", "continuation")  # settings that may be token ids if given from Python


Kind = TypeVar("Kind", bound="Settings")


def _file_name(value: object) -> str:
    name = readers.text(value)
    if fault := check_name(name):
        raise ValueError(f"{fault}, found {readers.quoted(value)}")
    return name


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One prompt's run, resolved and checked. Raises RequestError, with every fault, when it is made of wrong values.

    `given` has the names that were set and not left at their defaults, `place` is the `file:line` of a batch entry,
    `warnings` are lines for the user, and `file_faults` are other faults of a dry run's batch file. These four take no
    part in comparisons.
    """

    DEMO: ClassVar[str] = "text"  # the folder in `demo/` of the model that `--model demo` stands for
    OTHER_SCRIPT_KEYS: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("image", "mask_mode", "max_image_tokens", "part", "at"), "mask_impact_vl.py"
    )

    prompt: str | tuple[int, ...] | None = option(
        "--prompt",
        readers.optional(readers.prompt_text),
        "the text whose next token is explained",
        None,
        metavar="TEXT",
        scope="entry",
        group="prompt",
        with_config=False,
    )
    prompt_file: str | None = option(
        "--prompt-file",
        readers.optional(readers.path),
        "a UTF-8 file with that text; `-` is standard input (flag only)",
        None,
        metavar="FILE",
        scope="entry",
        group="prompt",
        default_shown="`prompt.txt`",
        with_config=False,
        changes_numbers=False,
    )
    messages: tuple[Message, ...] | None = option(
        "--messages",
        readers.optional(readers.messages),
        "a conversation in place of the prompt, put into the model's chat template: a list of `role` and `content`; "
        "the flag names a JSON file, `-` is standard input",
        None,
        metavar="FILE",
        scope="entry",
        group="prompt",
        with_config=False,
        unrecorded=None,
        read_flag=readers.path,
    )
    num_tokens: int = option(
        "--num-tokens",
        readers.whole_number,
        "tokens to generate; with a continuation, how many of its tokens to use",
        1,
        metavar="N",
        scope="prompt",
        group="measure",
        python="num_output_tokens",
        default_shown="1; with a continuation all of it",
    )
    continuation: str | tuple[int, ...] | None = option(
        "--continuation",
        readers.optional(readers.nonempty_text_or_ids),
        "measure these next tokens in place of the model's own",
        None,
        metavar="TEXT",
        scope="prompt",
        group="prompt",
        with_config=False,
    )
    chat: bool = option(
        "--chat",
        readers.switch,
        "put the prompt into the model's chat template, as the user's message",
        False,
        off_flag="--no-chat",
        scope="prompt",
        group="prompt",
        default_shown="off for text, on for vision-language",
    )
    system: str | None = option(
        "--system",
        readers.optional(readers.text),
        "the chat's system message",
        None,
        metavar="TEXT",
        scope="prompt",
        group="prompt",
    )
    thinking: bool = option(
        "--thinking",
        readers.switch,
        "let the chat template open a thinking section (its `enable_thinking`)",
        False,
        scope="prompt",
        group="prompt",
    )
    layers: tuple[int, ...] | None = option(
        "--layers",
        readers.optional(readers.layer_numbers),
        "layers to measure, counted from 0, such as `0-3,10`",
        None,
        metavar="LAYERS",
        scope="prompt",
        group="measure",
        default_shown="all",
    )
    variants: tuple[str, ...] = option(
        "--variants",
        readers.several_of(*VARIANTS),
        "what to measure: the whole layer update (`full`), the attention's share (`attn`), each head (`heads`)",
        VARIANTS,
        metavar="LIST",
        scope="prompt",
        group="measure",
    )
    units: tuple[str, ...] = option(
        "--units",
        readers.listed(*UNIT_KINDS),
        "what is hidden as one: each token, `words`, `sentences`, `lines`, a chat's `messages`, whole `images`, named "
        "`spans`",
        ("tokens",),
        metavar="LIST",
        scope="prompt",
        group="measure",
        unrecorded=("tokens",),
    )
    spans: tuple[str, ...] | None = option(
        "--span",
        readers.optional(readers.spans),
        "tokens to hide as one, by a name: the first occurrence of `TEXT`, the second (`TEXT#2`), all as one "
        "(`TEXT#all`), positions (`@3-7,12`), cells of a picture (`img0[1-3,2-5]`); give it again for more; in YAML "
        "and Python a mapping of names to these",
        None,
        metavar="NAME=TEXT",
        scope="prompt",
        group="measure",
        repeatable=True,
        unrecorded=None,
    )
    pairs: int | str | None = option(
        "--pairs",
        readers.optional(readers.pairs),
        "hide units two at a time as well: every two of the `K` that move the layers most, or of the `spans`",
        None,
        metavar="K",
        scope="prompt",
        group="measure",
        unrecorded=None,
        read_flag=readers.in_flag(readers.pairs),
    )
    knockout: tuple[str, ...] = option(
        "--knockout",
        readers.several_of("none", *CUTS),
        "cuts that are run on to the answer: a unit is hidden from `all` that follows it, from the `final` position "
        "alone, in single `heads`; `first_order` estimates the effect of each layer and head; `none` makes no cut",
        CUTS,
        metavar="LIST",
        scope="prompt",
        group="measure",
        default_shown="all four; from Python `none`",
        unrecorded=("none",),
    )
    window: int | str = option(
        "--window",
        readers.window,
        "the layers of the cut `final`: `K` around each layer in turn, or `all` at once",
        "all",
        metavar="K",
        scope="prompt",
        group="measure",
        unrecorded="all",
        read_flag=readers.in_flag(readers.window),
    )
    knockout_steps: tuple[int, ...] | str = option(
        "--knockout-steps",
        readers.step_numbers,
        "generation steps of the cuts other than `all`, which is read at every step: counted from 0, such as `0-3,10`, "
        "or `all`",
        (0,),
        metavar="STEPS",
        scope="prompt",
        group="measure",
        default_shown="`0`",
        unrecorded=(0,),
    )
    head_cells: int = option(
        "--head-cells",
        readers.whole_number,
        "how many cells of layer, head and unit the cut `heads` takes: those that move the residual stream most",
        64,
        metavar="K",
        scope="prompt",
        group="measure",
        unrecorded=64,
    )
    name: str | None = option(
        "--output",
        readers.optional(_file_name),
        "name of the result files",
        None,
        metavar="NAME",
        scope="entry",
        group="results",
        default_shown="from the prompt's first words",
        with_config=False,
        changes_numbers=False,
    )
    output_dir: str = option(
        "--output-dir",
        readers.path,
        "folder of the result files",
        "output",
        metavar="DIR",
        scope="run",
        group="results",
        changes_numbers=False,
    )
    model: str = option(
        "--model",
        readers.path,
        "a model of the Hugging Face hub, a folder, or `demo`, the small one carried here",
        "Qwen/Qwen3-0.6B",
        metavar="NAME_OR_PATH",
        scope="run",
        group="model",
        python="model_name",
        default_shown="`Qwen/Qwen3-0.6B`; vision-language `Qwen/Qwen3-VL-2B-Instruct`",
    )
    revision: str | None = option(
        "--revision",
        readers.optional(readers.nonempty_text),
        "the hub model's branch, tag or commit",
        None,
        metavar="R",
        scope="run",
        group="model",
    )
    device: str = option(
        "--device",
        readers.device_name,
        "`auto` (CUDA, then MPS, then CPU), `cpu`, `cuda`, `cuda:N` or `mps`",
        "auto",
        metavar="DEVICE",
        scope="run",
        group="model",
    )
    dtype: str = option(
        "--dtype",
        readers.one_of("auto", "float32", "bfloat16", "float16", "float64"),
        "the model's numbers: `auto` (the checkpoint's on a GPU, float32 on the CPU), `float32`, `bfloat16`, `float16` "
        "or `float64`",
        "auto",
        metavar="DTYPE",
        scope="run",
        group="model",
    )
    measure_dtype: str = option(
        "--measure-dtype",
        readers.one_of("float32", "model"),
        "the masked rows' numbers: at least `float32`, or the `model`'s own",
        "float32",
        metavar="DTYPE",
        scope="run",
        group="measure",
    )
    method: str = option(
        "--method",
        readers.one_of("renormalize", "rerun"),
        "`renormalize` (all masks of a layer at once) or `rerun` (one mask at a time: slow, plain, the same numbers)",
        "renormalize",
        metavar="METHOD",
        scope="run",
        group="measure",
    )
    max_memory: int | None = option(
        "--max-memory",
        readers.optional(readers.memory),
        "the most memory for the masked rows that go through a layer at once, such as "
        "`500MB` or `2GB`; fewer go together then",
        None,
        metavar="SIZE",
        scope="run",
        group="measure",
        default_shown="some 400 MB",
    )
    formats: tuple[str, ...] = option(
        "--formats",
        readers.several_of(*FORMATS),
        "result files to write: `csv`, `json`, `parquet`",
        ("csv", "json"),
        metavar="LIST",
        scope="run",
        group="results",
        default_shown="`csv,json`; past 1,048,575 rows `parquet`",
        changes_numbers=False,
    )
    report: bool = option(
        "--report",
        readers.switch,
        "write a page that shows the run, `{name}_report.html`, too",
        False,
        scope="run",
        group="results",
        changes_numbers=False,
    )
    overwrite: bool = option(
        "--overwrite",
        readers.switch,
        "replace results that exist",
        False,
        scope="flag",
        group="results",
        changes_numbers=False,
    )
    quiet: bool = option(
        "--quiet",
        readers.switch,
        "print nothing but warnings and errors",
        False,
        scope="flag",
        group="results",
        changes_numbers=False,
    )
    dry_run: bool = option(
        "--dry-run",
        readers.switch,
        "check everything and print what would run; load no weights, write nothing",
        False,
        scope="flag",
        group="results",
        changes_numbers=False,
    )
    trust_remote_code: bool = option(
        "--trust-remote-code",
        readers.switch,
        "run Python code that the model's repository brings along",
        False,
        scope="flag",
        group="model",
    )
    given: frozenset[str] = field(default=frozenset(), compare=False)
    place: str = field(default="", compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    file_faults: tuple[str, ...] = field(default=(), compare=False)

    part = "decoder"  # which part of the model is measured; no annotation, as it is a field only in VisionSettings

    def __post_init__(self) -> None:
        faults: list[str] = []
        for name, row in options(type(self)).items():
            object.__setattr__(self, name, read_value(row.read, getattr(self, name), f"{name}: ", faults))
        if self.messages is not None:
            object.__setattr__(self, "chat", True)
        elif self.prompt is None and self.takes_prompt(vars(self)):
            faults.append("prompt: expected text, found none")
        faults += self.contradictions(vars(self))
        if faults:
            raise RequestError(*map(self.with_place, faults))

    @classmethod
    def from_python(cls: type[Kind], **arguments: object) -> Kind:
        """Settings from keyword arguments, by field name or by its name in Python; None stands for the default.

        A prompt of token ids switches chat off; one that is a list of messages stands for `messages`.
        Raises RequestError (a ValueError) for unknown names and wrong values, all of them at once.
        """
        chosen, faults = _arguments(cls, arguments)
        given = frozenset(chosen)
        wanted = defaults(cls) | chosen | {"given": given}
        if cls.takes_prompt(wanted) and "messages" not in given and len(given & {"prompt", "prompt_file"}) != 1:
            faults.append(
                "prompt: give the text whose next token is to be explained, as prompt or as prompt_file, "
                "or a conversation as messages"
            )
        faults += cls.contradictions(wanted)
        if faults:
            raise RequestError(*faults)
        if "prompt_file" in given:
            chosen["prompt"] = read_prompt(chosen["prompt_file"])
        if is_ids(chosen.get("prompt")):
            chosen["chat"] = False
        return cls(**chosen, given=given)

    @staticmethod
    def contradictions(chosen: Mapping[str, Any]) -> list[str]:
        """Faults of settings that do not go together; `chosen` also has `given`. UNREADABLE conflicts with nothing."""
        faults = unit_faults(chosen) + knockout_faults(chosen)
        if chosen["messages"] is not None:
            return conversation_faults(chosen) + faults
        if is_ids(chosen.get("prompt")):
            return chat_faults(chosen) + faults
        if chosen["chat"] is False and isinstance(chosen["system"], str):
            faults.append("system needs chat, which is off; add --chat (in YAML chat: true) or leave system out")
        if chosen["chat"] is False and chosen["thinking"] is True:
            faults.append("thinking needs chat, which is off; add --chat (in YAML chat: true) or leave thinking out")
        return faults

    @staticmethod
    def takes_prompt(chosen: Mapping[str, Any]) -> bool:
        """Whether these settings need a prompt."""
        return True

    @staticmethod
    def inapplicable(chosen: Mapping[str, Any]) -> frozenset[str]:
        """Names of settings without meaning beside these: faults in an entry, ignored where many entries share them."""
        return frozenset(without_cut(chosen)) | ({"chat", "system"} if chosen["messages"] is not None else set())

    @staticmethod
    def faults_without_prompt(chosen: Mapping[str, Any]) -> list[str]:
        """Faults of settings that need a prompt given with them, as the default prompt file does not go with them."""
        return []

    @property
    def title(self) -> str:
        """The text that a result's name is made from if none is given."""
        return self.question

    @property
    def question(self) -> str:
        """The prompt; of a conversation the user's last message, or the last of all if the user has none."""
        turns = self.messages or ({"role": "user", "content": str(self.prompt)},)
        return ([turn for turn in turns if turn["role"] == "user"] or turns)[-1]["content"]

    @property
    def most_steps(self) -> int | None:
        """The most generation steps; None for one per token of the continuation."""
        return None if self.continuation is not None and "num_tokens" not in self.given else self.num_tokens

    @property
    def unit_kinds(self) -> tuple[str, ...] | None:
        """The kinds of units that are hidden, in order; None where that is each token alone, and no pairs are made."""
        kinds = self.units if self.spans is None or "spans" in self.units else (*self.units, "spans")
        return None if kinds == ("tokens",) and self.pairs is None else kinds

    @property
    def cuts(self) -> tuple[str, ...]:
        """The cuts that are made down to the answer, in order; none where nothing is predicted."""
        if self.part == "encoder" or "none" in self.knockout:
            return ()
        return tuple(cut for cut in self.knockout if cut != "first_order" or has_first_order(self.variants))

    @property
    def cuts_named(self) -> bool:
        """Whether the cuts were asked for by name."""
        return "knockout" in self.given

    @property
    def unlimited(self) -> bool:
        """Whether cuts or units were asked for by name, so that no limit of what `all` costs holds."""
        return self.cuts_named or "units" in self.given

    def cuts_at(self, step: int) -> tuple[str, ...]:
        """The cuts that are read at a generation step: `all` at each, the others where they are asked for."""
        asked = self.knockout_steps == "all" or step in self.knockout_steps
        return tuple(cut for cut in self.cuts if cut == "all" or asked)

    @property
    def formats_given(self) -> bool:
        """Whether the formats of the result files were asked for by name."""
        return "formats" in self.given

    @property
    def batch_file(self) -> str | None:
        """The batch file that the entry stands in, if any."""
        return self.place.rpartition(":")[0] or None

    def with_place(self, fault: str) -> str:
        """The fault, with the entry's file and line in front if it is of a batch file."""
        return f"{self.place}: {fault}" if self.place else fault

    def to_record(self) -> dict[str, object]:
        """Every setting as JSON has it: tuples as lists, `num_tokens` as `most_steps`, `knockout` as the cuts that are
        made, and without those that are as a run file leaves them out."""
        plain = {name: getattr(self, name) for name in options(type(self))}
        plain |= {"num_tokens": self.most_steps, "knockout": self.cuts or ("none",)}
        table = options(type(self))
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in plain.items()
            if value != table[name].unrecorded
        }

    def changing_numbers(self) -> dict[str, object]:
        """The settings of `to_record` that change the numbers, not only where and how they are written."""
        table = options(type(self))
        return {name: value for name, value in self.to_record().items() if table[name].changes_numbers}

    def unrecorded(self) -> dict[str, object]:
        """The values that a run file leaves out, as JSON has them."""
        left_out = {name: row.unrecorded for name, row in options(type(self)).items() if row.unrecorded is not RECORDED}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in left_out.items()}


def is_ids(value: object) -> TypeGuard[tuple[int, ...]]:
    """Whether a prompt or a continuation, as its reader returns it, is token ids and not text."""
    return isinstance(value, tuple)


def chat_faults(chosen: Mapping[str, Any]) -> list[str]:
    """A fault if settings of a chat are given with token ids."""
    asked = [
        name for name in ("chat", "system", "thinking") if name in chosen["given"] and chosen[name] not in (False, None)
    ]
    it = "them" if asked[1:] else "it"
    return [f"token ids are a complete prompt already, found {', '.join(asked)}; leave {it} out"] if asked else []


def unit_faults(chosen: Mapping[str, Any]) -> list[str]:
    """Faults of units, spans and pairs that lack what they need."""
    units, spans, pairs = (chosen[name] for name in ("units", "spans", "pairs"))
    faults = []
    if isinstance(units, tuple) and "spans" in units and spans is None:
        faults.append("units spans needs a span; add --span NAME=TEXT (in YAML spans: {NAME: TEXT})")
    if isinstance(units, tuple) and "messages" in units and chosen["chat"] is False and chosen["messages"] is None:
        faults.append(
            "units messages needs a chat; add --chat (in YAML chat: true), or give the turns with --messages FILE"
        )
    if pairs == "spans" and (spans is None or (isinstance(spans, tuple) and len(spans) < 2)):
        faults.append(f"pairs spans needs at least two spans, found {len(spans or ())}; add --span NAME=TEXT")
    if isinstance(pairs, int) and isinstance(chosen["variants"], tuple) and "full" not in chosen["variants"]:
        faults.append(
            f"pairs {pairs} needs the variant full, which tells what moves the layers most; add it to --variants"
        )
    return faults


def knockout_faults(chosen: Mapping[str, Any]) -> list[str]:
    """Faults of cuts down to the answer, and of their settings, that do not go together."""
    knockout, variants = chosen["knockout"], chosen["variants"]
    if knockout is UNREADABLE:
        return []
    if "none" in knockout and len(knockout) > 1:
        return [f"knockout none stands alone, found {','.join(knockout)}; leave none out, or the others"]
    faults = [
        f"{name} needs the cut {' or '.join(CUTS_OF[name])}, found knockout {','.join(knockout)}; "
        f"ask for it with --knockout, or leave {name} out"
        for name in without_cut(chosen)
        if chosen[name] not in (getattr(Settings, name), UNREADABLE)
    ]
    named = "knockout" in chosen["given"] and "first_order" in knockout
    if named and variants is not UNREADABLE and not has_first_order(variants):
        faults.append(
            f"knockout first_order needs the variant full or heads, found {','.join(variants)}; add one to --variants"
        )
    return faults + step_faults(chosen)


def step_faults(chosen: Mapping[str, Any]) -> list[str]:
    """A fault if cuts are asked for at a generation step that the run cannot reach."""
    steps, most = chosen["knockout_steps"], chosen["num_tokens"]
    open_end = chosen["continuation"] is not None and "num_tokens" not in chosen["given"]
    if not isinstance(steps, tuple) or open_end or most is UNREADABLE or steps[-1] < most:
        return []
    return [f"knockout_steps {steps[-1]} needs {steps[-1] + 1} tokens, as steps count from 0; add --num-tokens N"]


def without_cut(chosen: Mapping[str, Any]) -> list[str]:
    """The settings of cuts none of which is made."""
    knockout = chosen["knockout"]
    return [] if knockout is UNREADABLE else [name for name, cuts in CUTS_OF.items() if not {*cuts} & {*knockout}]


def has_first_order(variants: tuple[str, ...]) -> bool:
    """Whether differences are measured that the first-order effect is made of: of whole layers, or of heads."""
    return "full" in variants or "heads" in variants


def conversation_faults(chosen: Mapping[str, Any]) -> list[str]:
    """A fault if messages are given with what they hold themselves."""
    beside = [name for name in ("prompt", "prompt_file", "chat", "system") if name in chosen["given"]]
    found = f"messages are the whole conversation, found {', '.join(beside)} beside them"
    return [f"{found}; keep the messages, or {'those' if beside[1:] else 'that'}"] if beside else []


def _arguments(kind: type, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keyword arguments as values by field name, and the faults met."""
    fields = {row.python: name for name, row in options(kind).items() if row.python}
    chosen: dict[str, Any] = {}
    faults: list[str] = []
    for word, value in arguments.items():
        name = fields.get(word, word)
        if (type(value).__module__, type(value).__name__) in (("torch", "dtype"), ("torch", "device")):
            value = str(value).removeprefix("torch.")  # as flags and YAML write it
        value = readers.yaml_value(value)
        if name == "prompt" and readers.are_messages(value):
            name = "messages"
        if name not in options(kind):
            faults.append(
                unknown(
                    "setting",
                    word,
                    [row.python or valid for valid, row in options(kind).items() if row.group != "results"],
                )
            )
        elif value is not None and options(kind)[name].group == "results":
            faults.append(f"{word}: from Python the table is returned and nothing is written or printed; leave it out")
        elif value is not None:
            if name in chosen:
                faults.append(
                    f"{options(kind)[name].python or 'prompt'!r}, {name!r}: two names of one setting; keep one"
                )
            read = options(kind)[name].read
            chosen[name] = read_value(
                readers.of_python(read) if name in MAY_BE_IDS else read, value, f"{word}: ", faults
            )
    return chosen, faults
