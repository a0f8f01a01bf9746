"""The JSON schemas of the batch files: they are what the settings give,
and agree with the readers on good and bad values."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from repository import ROOT

from mask_impact.base.errors import RequestError
from mask_impact.settings import batch_file, generated_files, json_schema
from mask_impact.settings import readers as values
from mask_impact.settings import text_settings as settings
from mask_impact.settings.option import Option, options
from mask_impact.settings.text_settings import Settings
from mask_impact.settings.vision_settings import VisionSettings

KINDS = pytest.mark.parametrize("kind", [Settings, VisionSettings])
ANNOTATIONS = {"$schema", "title", "description", "default"}
TYPES = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
# What the schemas let through, in the words of the fault:
# what needs more than one value, more than JSON, or more than the file.
BEYOND = (
    "runs backwards",
    "200 bytes",
    "needs chat",
    "needs a chat",
    "needs a span",
    "needs at least two spans",
    "needs the variant",
    "needs the cut",
    "stands alone",
    "steps count from 0",
    "needs the pictures",
    "two spans have the name",
    "needs a picture",
    "is also on line",
    "no entry of prompts is enabled",
    "there is no such file",
    "this is a folder",
    "cannot be read",
)


# And with pictures: an entry of the encoder has no prompt, wherever `part` is said.
BEYOND_PICTURES = (*BEYOND, "needs its prompt", "part encoder")


# A checker of the part of JSON Schema that is used


def fits(value: object, rules: dict) -> bool:
    """Whether a value is valid; fails for a rule that is not known here."""
    return all(CHECKS[rule](value, wanted, rules) for rule, wanted in rules.items() if rule not in ANNOTATIONS)


def of_type(value: object, name: str) -> bool:
    if name == "integer":  # JSON does not tell 3.0 from 3
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
    return isinstance(value, TYPES[name])


def same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def matches(pattern: str, value: str) -> bool:
    r"""As ECMA 262 has it: `$` is the very end, also before a line break, and \s is white space."""
    return re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), value) is not None


CHECKS = {
    "type": lambda value, name, _: of_type(value, name),
    "enum": lambda value, choices, _: any(same(value, one) for one in choices),
    "const": lambda value, one, _: same(value, one),
    "not": lambda value, rules, _: not fits(value, rules),
    "anyOf": lambda value, several, _: any(fits(value, rules) for rules in several),
    "oneOf": lambda value, several, _: sum(fits(value, rules) for rules in several) == 1,
    "minimum": lambda value, least, _: not number(value) or value >= least,
    "maximum": lambda value, most, _: not number(value) or value <= most,
    "minLength": lambda value, least, _: not isinstance(value, str) or len(value) >= least,
    "maxLength": lambda value, most, _: not isinstance(value, str) or len(value) <= most,
    "pattern": lambda value, pattern, _: not isinstance(value, str) or matches(pattern, value),
    "minItems": lambda value, least, _: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda value, most, _: not isinstance(value, list) or len(value) <= most,
    "items": lambda value, rules, _: not isinstance(value, list) or all(fits(item, rules) for item in value),
    "required": lambda value, keys, _: not isinstance(value, dict) or set(keys) <= set(value),
    "properties": lambda value, table, _: (
        not isinstance(value, dict) or all(fits(item, table[key]) for key, item in value.items() if key in table)
    ),
    "minProperties": lambda value, least, _: not isinstance(value, dict) or len(value) >= least,
    "propertyNames": lambda value, rules, _: not isinstance(value, dict) or all(fits(key, rules) for key in value),
    "additionalProperties": lambda value, allowed, rules: (
        not isinstance(value, dict)
        or all(allowed and fits(value[key], allowed) for key in set(value) - set(rules.get("properties", {})))
    ),
}


@pytest.mark.parametrize(
    "value, rules, good",
    [
        (3, {"type": "integer"}, True),
        (3.0, {"type": "integer"}, True),
        (True, {"type": "integer"}, False),
        (1, {"enum": [True]}, False),
        ("a\n", {"pattern": "^a$"}, False),
        ("a", {"pattern": "^a$"}, True),
        ([1, "x"], {"items": {"type": "string"}}, False),
        ({"a": 1}, {"properties": {}, "additionalProperties": False}, False),
        ({}, {"required": ["a"]}, False),
        ("x", {"oneOf": [{}, {"type": "string"}]}, False),
        (2, {"not": {"const": 2}}, False),
        ([], {"minItems": 1}, False),
        ([1, 2], {"maxItems": 1}, False),
        ({}, {"minProperties": 1}, False),
        ({"b": 1}, {"propertyNames": {"pattern": "a"}}, False),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, False),
        ({"a": 1}, {"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, True),
    ],
)
def test_the_checker_checks(value, rules, good):
    assert fits(value, rules) is good


def test_the_checker_knows_every_rule_that_is_used():
    with pytest.raises(KeyError):
        fits(1, {"multipleOf": 2})


# Values of every kind

SCALARS = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    9999,
    10_000,
    10**6,
    10**6 + 1,
    10**30,
    -0.5,
    2.5,
    "",
    " ",
    "x",
    "é" * 101,
    "x" * 201,
    "3-0",
    "0-3,10",
    "cuda:100",
    "cuda:7",
    "full,heads",
    "csv",
    "words,tokens",
    "spans",
    "demo",
    "auto\n",
    "000000003",
    "0000000003",
    "999999",
    "1000000",
    "con.txt",
]
PIECES = [
    "500MB",
    "2 gb",
    "decoder",
    "encoder",
    "all",
    "3,5",
    "1:0,2",
    " 1 : 2 , 3 ",
    "1:2",
    "3,5,1",
    "1234567,0",
    "full",
    "attn",
    "heads",
    "csv",
    "json",
    "auto",
    "float32",
    "model",
    "rerun",
    "both",
    "cuda",
    "cpu",
    "mps",
    ":",
    ",",
    ",",
    " ",
    "\t",
    "\n",
    "\u3000",
    "-",
    "-",
    "0",
    "3",
    "07",
    "10",
    "9999",
    "10000",
    "٣",
    "con",
    "COM1",
    "lpt²",
    "nul",
    "conin$",
    ".",
    "..",
    "a",
    "É",
    "\\",
    "/",
    "*",
    "?",
    '"',
    "<",
    "|",
    "\0",
    "\x1f",
    "\x7f",
    "\x85",
    "\u2028",
    "~",
    "日本",
    "x.txt",
]


def words(chance: random.Random) -> str:
    return "".join(chance.choice(PIECES) for _ in range(chance.randrange(6)))


def any_value(chance: random.Random) -> object:
    kind = chance.randrange(10)
    if kind < 3:
        return chance.choice(SCALARS)
    if kind < 7:
        return words(chance)
    if kind < 9:
        one = partial(
            chance.choice, chance.choice([SCALARS, PIECES, [0, 1, 5, 9999], ["full", "heads"], ["csv", "parquet"]])
        )
        return [one() for _ in range(chance.randrange(4))]
    return chance.choice([{}, [[1]], spans_of(chance), [messages_of(chance) for _ in range(chance.randrange(1, 3))]])


def messages_of(chance: random.Random) -> dict[str, object]:
    """A message, or nearly one."""
    pairs = {"role": "user", "content": "Hi"}
    return chance.choice([pairs, pairs, {"role": "user"}, pairs | {"content": [pairs]}, pairs | {"name": "x"}])


def spans_of(chance: random.Random) -> object:
    """Named spans, or nearly."""
    names, texts = ["a", " a", "a b", "=", "a=b", " ", ""], ["x", "img0[1,2]", "a=b", "", None, 1, []]
    pairs = {chance.choice(names): chance.choice(texts) for _ in range(chance.randrange(3))}
    return chance.choice([pairs, [f"{name}={text}" for name, text in pairs.items()]])


def readers() -> Iterator[values.Reader]:
    """Every reader of a setting, and those inside."""
    for row in options(VisionSettings).values():
        yield row.read
        if isinstance(row.read, partial) and row.read.func is values._optional:
            yield row.read.args[0]


def named(read: values.Reader) -> str:
    """Without an address in it, which differs from process to process."""
    if not isinstance(read, partial):
        return read.__name__
    return "-".join(
        [read.func.__name__, *(named(argument) if callable(argument) else str(argument) for argument in read.args)]
    )


@pytest.mark.parametrize("read", {named(read): read for read in readers()}.values(), ids=named)
def test_reader_and_schema_agree(read):
    chance, rules, seen = random.Random(named(read)), json_schema.schema_of_reader(read), set()
    for value in [*SCALARS, *PIECES, *(any_value(chance) for _ in range(2000))]:
        good, why = True, ""
        try:
            read(value)
        except ValueError as error:
            good, why = False, str(error)
        if good or not any(word in why for word in (*BEYOND[:2], "two spans")):
            assert fits(value, rules) is good, (value, why)
        seen.add(good)
    assert seen == {True, False} or read is values.text


@pytest.mark.parametrize(
    "read, value",
    [
        (values.layer_numbers, "3-0"),
        (settings._file_name, "é" * 101),
        (values.whole_number, 3.0),
        (values.memory, "5KB"),
    ],
)
def test_what_only_the_reader_can_tell(read, value):
    """The exceptions that the module's docstring names; whoever finds a pattern for one may take it out."""
    assert fits(value, json_schema.schema_of_reader(read))
    with pytest.raises(ValueError):
        read(value)


def test_a_reader_without_a_schema_is_noticed():
    with pytest.raises(KeyError):
        json_schema.described(Option("--x", values.number_in_flag, "x", "run", "model"), None)


# Whole files


def random_file(chance: random.Random, kind: type[Settings]) -> dict:
    """A batch file that is sound, or nearly so."""
    table = options(kind)
    keys = [*table, *batch_file.STRUCTURE, "nonsense"]
    good = {
        "num_tokens": 2,
        "layers": "0-3",
        "chat": True,
        "system": "S",
        "variants": ["full"],
        "formats": "csv",
        "device": "cpu",
        "model": "demo",
        "report": False,
        "image": [],
        "dtype": "float32",
        "continuation": None,
        "at": None,
    }

    def some(level: str) -> dict:
        rate = chance.choice([0, 0, 0, 1])
        fitting = [key for key in good if key in table and table[key].scope in batch_file.SCOPES[level]]
        chosen = {key: good[key] for key in chance.sample(fitting, min(len(fitting), chance.randrange(4)))}
        for _ in range(rate):
            chosen[chance.choice(keys if chance.random() < 0.3 else fitting)] = any_value(chance)
        return chosen

    def entry() -> dict:
        source = chance.choice(
            [
                {"prompt": "P"},
                {"prompt": "P"},
                {"prompt_file": "in.txt"},
                {"prompt_file": None, "prompt": "P"},
                {},
                {"prompt": "P", "prompt_file": "in.txt"},
                {"prompt_file": "-"},
                {"prompt_file": None},
                {"messages": [{"role": "user", "content": "Hi"}]},
                {"messages": [{"role": "user", "content": "Hi"}], "prompt": None},
                {"messages": [{"role": "user", "content": "Hi"}], "prompt": "P"},
                {"messages": None},
            ]
        )
        return some("entry") | source | ({"enabled": False} if chance.random() < 0.15 else {})

    file = some("top") | {"prompts": [entry() for _ in range(chance.randrange(1, 3))]}
    return file | ({"defaults": some("defaults")} if chance.random() < 0.5 else {})


@KINDS
def test_the_file_and_its_schema_agree(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("From a file", encoding="utf-8")
    chance, rules, seen = random.Random(5), json_schema.batch_schema(kind), []
    for _ in range(600):
        file = random_file(chance, kind)
        Path("b.yaml").write_text(yaml.safe_dump(file, allow_unicode=True), encoding="utf-8")
        faults = ()
        try:
            batch_file.read("b.yaml", kind=kind)
        except RequestError as error:
            faults = error.faults
        beyond = BEYOND_PICTURES if kind is VisionSettings else BEYOND
        told = [fault for fault in faults if not any(word in fault for word in beyond)]
        if told or not faults:
            assert fits(file, rules) is not bool(told), (file, told)
        seen.append(bool(told))
    assert 100 < sum(seen) < 500


@pytest.mark.parametrize(
    "text",
    [
        "prompts: []",
        "prompts: {}",
        "prompts:",
        "defaults: {}",
        "[]",
        "prompts: [x]",
        "prompts: [{}]",
        "prompts: [{prompt: a}]\nenabled: true",
        "prompts: [{prompt: a, overwrite: true}]",
        "quiet: true\nprompts: [{prompt: a}]",
        "prompts: [{prompt: a, model: demo}]",
        "defaults: {device: cpu}\nprompts: [{prompt: a}]",
        "name: x\nprompts: [{prompt: a}]",
        "prompts: [{prompt: a, enabled: 1}]",
        "defaults:\nprompts: [{prompt: a}]",
        "dry_run: true\nprompts: [{prompt: a}]",
        "prompts: [{prompt: yes}]",
    ],
)
def test_files_that_both_refuse(text, tmp_path):
    (tmp_path / "b.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError):
        batch_file.read(str(tmp_path / "b.yaml"))
    assert not fits(yaml.safe_load(text), json_schema.batch_schema(Settings))


def examples() -> list[str]:
    guide = (ROOT / "BATCH_MODE_GUIDE.md").read_text(encoding="utf-8")
    files = [
        *ROOT.glob("prompts_config*.yaml"),
        ROOT / "demo" / "text" / "demo_prompts.yaml",
        ROOT / "demo" / "vision" / "demo_pictures.yaml",
    ]
    blocks = re.findall(r"^```yaml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    return [*blocks, *(path.read_text(encoding="utf-8") for path in files)]


@pytest.mark.parametrize("text", examples())
def test_every_example_is_valid(text):
    assert fits(yaml.safe_load(text), json_schema.batch_schema(VisionSettings if "image:" in text else Settings))


# The files


@pytest.mark.parametrize("name", json_schema.FILES)
def test_the_schemas_are_what_the_sources_give(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == json_schema.schema_text(json_schema.FILES[name]), "run python -m mask_impact.settings.json_schema"
    assert text.isascii() and json.loads(text)["$schema"] == json_schema.DRAFT


@KINDS
def test_every_key_is_there_with_its_meaning_and_no_other(kind):
    rules = json_schema.batch_schema(kind)
    levels = {
        "top": rules,
        "defaults": rules["properties"]["defaults"],
        "entry": rules["properties"]["prompts"]["items"],
    }
    for level, part in levels.items():
        wanted = {name for name, row in options(kind).items() if row.scope in batch_file.SCOPES[level]}
        assert set(part["properties"]) == wanted | {key for key, at in batch_file.STRUCTURE.items() if at == level}
        assert part["additionalProperties"] is False and all(
            item["description"] for item in part["properties"].values()
        )
        for name in wanted:
            assert options(kind)[name].meaning.replace("`", "") in part["properties"][name]["description"]
    assert levels["defaults"]["properties"]["chat"]["default"] is (kind is VisionSettings)


@pytest.mark.parametrize("path", sorted(ROOT.glob("prompts_config*.yaml")), ids=lambda path: path.name)
def test_the_batch_files_name_their_schema(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert (
        first == f"# yaml-language-server: $schema={path.stem}.schema.json"
        and (ROOT / f"{path.stem}.schema.json").exists()
    )


def test_make_guide_writes_them_too():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "-m mask_impact.settings.json_schema" in re.search(r"^guide:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]


def test_a_file_that_is_not_what_the_settings_give_is_told_and_written_again(tmp_path, capsys):
    file = tmp_path / "a.json"
    file.write_text("old", encoding="utf-8")
    assert generated_files.write({file: "new"}, ["--check"]) == 1 and file.read_text(encoding="utf-8") == "old"
    assert capsys.readouterr().err == "a.json is not what the settings give: run `make guide` and commit it\n"
    assert generated_files.write({file: "new"}, []) == 0 and file.read_text(encoding="utf-8") == "new"
    assert generated_files.write({file: "new"}, ["--check"]) == 0
