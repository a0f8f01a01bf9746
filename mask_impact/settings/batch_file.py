"""The batch file: from YAML to a list of `Settings`, one per enabled entry.

The file is read as a tree of nodes, not as dicts: nodes keep line numbers, and keys that stand twice. An alias is the
same node again, so that nested aliases, which could stand for billions of values, take no more room than the file.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mask_impact.base.errors import RequestError, collect_faults
from mask_impact.base.file_names import name_key
from mask_impact.settings.option import UNREADABLE, defaults, options, read_value, unknown
from mask_impact.settings.prompt_files import read_prompt, read_text
from mask_impact.settings.readers import quoted, switch
from mask_impact.settings.text_settings import Kind, Settings

Members = dict[str, tuple[int, yaml.Node]]  # by key: the line of the key, the node of the value
LEVELS = {"top": "the top level of the file", "defaults": "defaults", "entry": "an entry of prompts"}
SCOPES = {"top": ("run", "prompt"), "defaults": ("prompt",), "entry": ("prompt", "entry")}
HOMES = {"run": LEVELS["top"], "prompt": "an entry, defaults or the top level", "entry": LEVELS["entry"]}
STRUCTURE = {"defaults": "top", "prompts": "top", "enabled": "entry"}  # keys that are no settings, with their level
NULL = "tag:yaml.org,2002:null"
EXAMPLE = 'write prompts: with entries such as - prompt: "The capital of France is"'


def read(
    path: str,
    flags: Mapping[str, Any] | None = None,
    kind: type[Kind] = Settings,  # type: ignore[assignment]  # mypy knows no default of a type variable
    faults: Sequence[str] = (),
) -> list[Kind]:
    """The settings of every enabled entry. `flags` are values that the command line gave: they win over the file.

    Raises RequestError with `faults` (those of the command line) and all of the file's own, each with file and line. A
    dry run gets the entries that can be read all the same, with these faults in their `file_faults`, and checks them
    further.
    """
    file = _File(path, kind)
    try:
        entries = file.entries(flags or {})
    except RecursionError:
        raise RequestError(*faults, f"{path}: nested too deeply; a batch file needs three levels") from None
    except RequestError as error:
        raise RequestError(*faults, *error.faults) from None
    found = (*faults, *(f"{path}:{line}: {fault}" for line, fault in sorted(file.faults)))
    if not found:
        return [kind(**entry) for entry in entries]
    sound = readable(entries, kind, found) if flags and flags.get("dry_run") is True else []
    if not sound:
        raise RequestError(*found)
    return sound


def readable(entries: Sequence[dict[str, Any]], kind: type[Kind], faults: tuple[str, ...]) -> list[Kind]:
    """The settings of those entries that could be read in spite of these faults."""
    sound = []
    for entry in entries:
        if entry.keys() & {"prompt", "messages"} or not kind.takes_prompt(defaults(kind) | entry):
            with collect_faults([]):  # its faults are in `faults` already
                sound.append(kind(**entry, file_faults=faults))
    return sound


class _File:
    """A batch file while it is read, with the faults met so far as (line, fault)."""

    def __init__(self, path: str, kind: type[Settings]):
        self.path, self.kind = path, kind
        self.options = options(kind)
        self.defaults = defaults(kind)
        self.faults: set[tuple[int, str]] = set()
        # Keys of another script: which script, and the keys' lines.
        self.other_script_keys: dict[str, tuple[str, set[int]]] = {}
        self.known: dict[int, Members] = {}
        self.mappings: dict[int, dict[str, object]] = {}
        self.names: dict[str, int] = {}

    def entries(self, flags: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The keyword arguments of every enabled entry's settings; valid only if `faults` is empty afterwards."""
        top = self.members(self.root(), "the file")
        shared = self.settings(top, "top")
        if "defaults" in top:
            shared |= self.settings(self.members(top["defaults"][1], "defaults"), "defaults")
        line, nodes = self.prompts(top)
        entries = [self.entry(node, shared, flags) for node in nodes]
        enabled = [entry for entry in entries if entry is not None]
        if nodes and not enabled:
            self.faults.add((line, "no entry of prompts is enabled; set enabled: true in at least one"))
        for key, (script, lines) in self.other_script_keys.items():
            also = f" (on {len(lines)} lines)" if len(lines) > 1 else ""
            self.faults.add((min(lines), f"{key}{also} is a key of {script}; run that with this file"))
        return enabled

    def root(self) -> yaml.Node:
        """The file's mapping. Raises RequestError if it cannot be read, is not YAML, is empty, or is no mapping."""
        text = read_text(self.path)
        try:
            self.loader = yaml.SafeLoader(text)
            node = self.loader.get_single_node()
        except (yaml.reader.ReaderError, yaml.MarkedYAMLError) as error:
            where_and_why = _where_and_why(text, error)
            raise RequestError(f"{self.path}:{where_and_why}; see BATCH_MODE_GUIDE.md for the form") from None
        except (ValueError, OverflowError):  # PyYAML lets these through, for "\UFFFFFFFF" among others
            raise RequestError(f"{self.path}: not YAML: an escape or a number in it has no value") from None
        if node is None or node.tag == NULL:
            raise RequestError(f"{self.path}: the file is empty; {EXAMPLE}")
        if not isinstance(node, yaml.MappingNode):
            raise RequestError(f"{self.path}:{_line(node)}: expected keys with values, found {_shown(node)}; {EXAMPLE}")
        return node

    def members(self, node: yaml.Node, what: str) -> Members:
        """The keys of a mapping; its own win over merged ones (`<<`)."""
        if id(node) not in self.known:
            self.known[id(node)] = {}  # for a mapping that merges itself
            own = self.own_members(node, what)
            _, bases = own.pop("<<", (0, None))
            self.known[id(node)] = self.merged(bases) | own
        return self.known[id(node)]

    def own_members(self, node: yaml.Node, what: str) -> Members:
        """The keys written in a mapping itself; a node of another kind is a fault and has none."""
        own: Members = {}
        if not isinstance(node, yaml.MappingNode):
            self.faults.add((_line(node), f"{what}: expected keys with values, found {_shown(node)}; {EXAMPLE}"))
            return own
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.faults.add((_line(key), f"{what}: expected a word as key, found {_shown(key)}"))
            elif key.value in own:
                first, _ = own[key.value]
                self.faults.add((_line(key), f"{quoted(key.value)} stands twice (also on line {first}); keep one"))
            else:
                own[key.value] = _line(key), value
        return own

    def merged(self, node: yaml.Node | None) -> Members:
        """The keys that `<<` brings in, from one mapping or from a list of them, in which an earlier one wins."""
        together: Members = {}
        bases = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for base in reversed(bases if node else []):
            together |= self.members(base, "<<")
        return together

    def settings(self, members: Members, level: str) -> dict[str, Any]:
        """The settings among the keys of one level."""
        chosen: dict[str, Any] = {}
        for key, (line, node) in members.items():
            if script := self.kind.OTHER_SCRIPT_KEYS.get(key):
                self.other_script_keys.setdefault(key, (script, set()))[1].add(line)
            elif fault := self.misplaced(key, level):
                self.faults.add((line, fault))
            elif key not in ("defaults", "prompts"):
                chosen[key] = self.value(key, line, node)
        return chosen

    def misplaced(self, key: str, level: str) -> str | None:
        """The fault of a key that does not belong to a level."""
        scope = self.options[key].scope if key in self.options else None
        if STRUCTURE.get(key) == level or scope in SCOPES[level]:
            return None
        if scope == "flag":
            return f"{key} does not belong in a batch file; give it on the command line as {self.options[key].flag}"
        if scope or key in STRUCTURE:
            home = HOMES[scope] if scope else LEVELS[STRUCTURE[key]]
            return f"{key} does not belong in {LEVELS[level]}; move it to {home}"
        return unknown(
            "key",
            key,
            [
                *(name for name, row in self.options.items() if row.scope in SCOPES[level]),
                *(name for name, home in STRUCTURE.items() if home == level),
            ],
        )

    def value(self, key: str, line: int, node: yaml.Node) -> Any:
        """A setting's value; if it is wrong, UNREADABLE and one more fault."""
        faults: list[str] = []
        read = switch if key == "enabled" else self.options[key].read
        value = read_value(lambda node: read(self.plain(node)), node, f"{key}: ", faults)
        self.faults.update((line, fault) for fault in faults)
        if key != "enabled" and self.options[key].is_path and value not in (None, UNREADABLE):
            return tuple(os.path.join(os.path.dirname(self.path), path) for path in value)
        return value

    def plain(self, node: yaml.Node) -> object:
        """The node as a Python value; of a list the scalar items and the mappings, as no setting is nested deeper."""
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.mapping(item) if isinstance(item, yaml.MappingNode) else self.scalar(item) for item in node.value
            ]
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        """A mapping of scalars as Python has it; for an alias the same one again."""
        if id(node) not in self.mappings:
            members = self.members(node, "a mapping")
            self.mappings[id(node)] = {key: self.scalar(value) for key, (_, value) in members.items()}
        return self.mappings[id(node)]

    def scalar(self, node: yaml.Node) -> object:
        """A scalar as a Python value; an empty mapping or list for one of these."""
        if not isinstance(node, yaml.ScalarNode):
            return {} if isinstance(node, yaml.MappingNode) else []
        try:
            value = self.loader.construct_object(node)
            return join_surrogates(value) if isinstance(value, str) else value
        except Exception:  # PyYAML raises errors of any kind: 2024-13-45, !!bool maybe, !!timestamp x
            raise ValueError(f"{quoted(node.value)} has no value in YAML; put it in quotes if text is meant") from None

    def prompts(self, top: Members) -> tuple[int, list[yaml.Node]]:
        """The line of `prompts` and its entries; a fault and no entries if it is not a list with some."""
        line, node = top.get("prompts", (1, None))
        if isinstance(node, yaml.SequenceNode) and node.value:
            return line, node.value
        self.faults.add((line, f"prompts: expected a list of entries, found {_shown(node)}; {EXAMPLE}"))
        return line, []

    def entry(self, node: yaml.Node, shared: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any] | None:
        """The keyword arguments of one entry's settings; None if the entry is not enabled."""
        members = self.members(node, "an entry of prompts")
        own = self.settings(members, "entry")
        if own.pop("enabled", True) is False:
            return None
        chosen = {**shared, **own, **flags}
        inapplicable = self.kind.inapplicable(self.defaults | chosen) - own.keys()
        chosen = {name: value for name, value in chosen.items() if name not in inapplicable}
        given = frozenset(name for name, value in chosen.items() if value is not None)
        if isinstance(node, yaml.MappingNode):
            chosen |= self.prompt(node, members, own, self.kind.takes_prompt(self.defaults | chosen))
            together = self.defaults | chosen | {"given": given}
            self.faults.update((_line(node), fault) for fault in self.kind.contradictions(together))
        self.check_unique_name(members, own)
        return chosen | {"given": given, "place": f"{self.path}:{_line(node)}", "warnings": self.warnings(members, own)}

    def prompt(self, node: yaml.Node, members: Members, own: Mapping[str, Any], needed: bool) -> dict[str, str]:
        """Prompt and prompt file of an entry that names a file; otherwise nothing. Both or none of them are a fault."""
        found = {name for name in ("prompt", "prompt_file", "messages") if own.get(name) is not None}
        if found >= {"prompt", "prompt_file"}:
            self.faults.add((_line(node), "an entry has both prompt and prompt_file; keep one of them"))
        elif not found and needed and self.kind.OTHER_SCRIPT_KEYS.keys().isdisjoint(members):
            self.faults.add((_line(node), "an entry needs its prompt, as prompt, prompt_file or messages"))
        elif isinstance(source := own.get("prompt_file"), str):
            return self.prompt_in_file(source, members["prompt_file"][0])
        return {}

    def prompt_in_file(self, source: str, line: int) -> dict[str, str]:
        """Prompt and prompt file, relative to the batch file; nothing and a fault at `line` if it cannot be read."""
        path = os.path.join(os.path.dirname(self.path), source)
        if source == "-":
            self.faults.add((line, "prompt_file: standard input is for the command line; name a file"))
            return {}
        try:
            return {"prompt_file": path, "prompt": read_prompt(path)}
        except RequestError as error:
            self.faults.update((line, f"prompt_file: {fault}") for fault in error.faults)
            return {}

    def check_unique_name(self, members: Members, own: Mapping[str, Any]) -> None:
        """Add a fault if another enabled entry has this entry's name."""
        if isinstance(name := own.get("name"), str):
            line, key = members["name"][0], name_key(name)
            if key in self.names:
                self.faults.add(
                    (
                        line,
                        f"the name {quoted(name)} is also on line {self.names[key]} "
                        "(upper and lower case are one); give each entry its own",
                    )
                )
            self.names.setdefault(key, line)

    def warnings(self, members: Members, own: Mapping[str, Any]) -> tuple[str, ...]:
        """A warning for a prompt that ends in a line break, as YAML's `|` leaves one."""
        prompt = own.get("prompt")
        if not isinstance(prompt, str) or not prompt.endswith(("\n", "\r")):
            return ()
        return (
            f"{self.path}:{members['prompt'][0]}: the prompt ends in a line break, which is kept; "
            "begin the text with |- or put it in quotes to leave it out",
        )


def join_surrogates(text: str) -> str:
    """The text with each pair of surrogates, JSON's way to write a character past U+FFFF, replaced by the character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _shown(node: yaml.Node | None) -> str:
    """A node as faults show it: nothing, a list, a mapping, or its text in quotes."""
    if node is None or node.tag == NULL:
        return "nothing"
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else quoted(node.value)


def _where_and_why(text: str, error: yaml.reader.ReaderError | yaml.MarkedYAMLError) -> str:
    """`line: not YAML: reason` of an error of PyYAML's, which spreads it over several lines."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"{text.count(chr(10), 0, error.position) + 1}: not YAML: found the character U+{error.character:04X}"
    reason = ", ".join(filter(None, (error.context, error.problem)))
    quotes = (
        " (text with a colon in it stands in quotes)" if error.problem == "mapping values are not allowed here" else ""
    )
    mark = error.problem_mark or error.context_mark
    return f"{mark.line + 1 if mark else 1}: not YAML: {reason}{quotes}"
