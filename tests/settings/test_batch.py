"""Batch files: order of the levels, faults with their lines, and YAML that was written to break readers."""

import json
import time

import pytest

from mask_impact.base.errors import RequestError
from mask_impact.settings import batch_file


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "b.yaml") -> str:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


@pytest.fixture
def faults(write):
    def faults(text: str | bytes, **keywords) -> list[str]:
        with pytest.raises(RequestError) as caught:
            batch_file.read(write(text), **keywords)
        assert all(fault.isprintable() and len(fault) < 400 for fault in caught.value.faults)
        return list(caught.value.faults)

    return faults


ORDER = """\
num_tokens: 2
layers: 0
defaults: {num_tokens: 3, variants: full}
prompts:
  - prompt: a
  - {prompt: b, num_tokens: 4, variants: heads}
  - {prompt: c, layers: null}
"""


def test_entry_before_defaults_before_top_level_before_built_in(write):
    a, b, c = batch_file.read(write(ORDER))
    assert (a.num_tokens, a.layers, a.variants, a.method) == (3, (0,), ("full",), "renormalize")
    assert (b.num_tokens, b.layers, b.variants) == (4, (0,), ("heads",))
    assert c.layers is None and "layers" not in c.given and "layers" in a.given
    assert [entry.place for entry in (a, b, c)] == ["b.yaml:5", "b.yaml:6", "b.yaml:7"]


def test_a_flag_comes_before_everything(write):
    entries = batch_file.read(write(ORDER), {"num_tokens": 9, "layers": (1,)})
    assert [(entry.num_tokens, entry.layers) for entry in entries] == [(9, (1,))] * 3


def test_entries_that_are_not_enabled_do_not_run(write):
    entries = batch_file.read(write("prompts: [{prompt: a, enabled: false}, {prompt: b, enabled: true}, {prompt: c}]"))
    assert [entry.prompt for entry in entries] == ["b", "c"]


def test_entries_that_are_not_enabled_may_lack_what_running_needs(write):
    text = (
        "prompts: [{enabled: false, prompt_file: gone.txt, name: a}, {enabled: false, system: s}, {prompt: b, name: a}]"
    )
    assert [entry.prompt for entry in batch_file.read(write(text))] == ["b"]


def test_anchors_aliases_and_merges_work(write):
    text = """\
base: &base {num_tokens: 4}
prompts:
  - &first {<<: *base, prompt: a}
  - {<<: [{layers: 1}, *first], prompt: b, num_tokens: 5}
"""
    with pytest.raises(RequestError, match="unknown key 'base'"):
        batch_file.read(write(text))
    a, b = batch_file.read(write(text.replace("base:", "defaults:", 1)))
    assert (a.num_tokens, a.prompt) == (4, "a")
    assert (b.num_tokens, b.prompt, b.layers) == (5, "b", (1,))


def test_of_merged_mappings_the_earlier_wins(write):
    [entry] = batch_file.read(write("prompts: [{<<: [{num_tokens: 7}, {num_tokens: 8, layers: 2}], prompt: a}]"))
    assert (entry.num_tokens, entry.layers) == (7, (2,))


def test_a_prompt_file_lies_beside_the_batch_file(write, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "q.txt").write_bytes("\ufeffWho?\r\n\r\n".encode())
    [entry] = batch_file.read(write("prompts: [{prompt_file: q.txt}]", "sub/b.yaml"))
    assert entry.prompt == "Who?\r\n" and entry.prompt_file.replace("\\", "/") == "sub/q.txt"


def test_json_as_python_writes_it_is_read(write):
    texts = ["\U0001f642", "a \U0001f468\u200d\U0001f469 b", "\U0010ffff\ufeff", "\u00e9"]
    entries = batch_file.read(
        write(json.dumps({"prompts": [{"prompt": text, "name": f"{text}{n}"} for n, text in enumerate(texts)]}))
    )
    assert [(entry.prompt, entry.name) for entry in entries] == [(text, f"{text}{n}") for n, text in enumerate(texts)]


@pytest.mark.parametrize("text", ["\\ud83d", "\\ude42\\ud83d", "\\ud83d \\ude42", "\\ud83d\\ud83d\\ude42"])
def test_a_surrogate_without_its_other_half_is_a_fault(text, faults):
    [fault] = faults(f'{{"prompts": [{{"prompt": "{text}"}}]}}')
    assert fault.startswith("b.yaml:1: prompt: expected UTF-8 text, found other bytes in ")


def test_a_final_line_break_is_kept_with_a_warning(write):
    kept, cut = batch_file.read(write("prompts:\n  - prompt: |\n      a\n      b\n  - prompt: |-\n      a\n      b\n"))
    assert (kept.prompt, cut.prompt, cut.warnings) == ("a\nb\n", "a\nb", ())
    [warning] = kept.warnings
    assert warning.startswith("b.yaml:2: the prompt ends in a line break, which is kept")


def test_all_faults_are_listed_in_order_after_those_of_the_flags(faults):
    text = """\
modle: x
num_tokens: "3"
defaults: {model: y, chat: maybe}
prompts:
  - name: ../x
    prompt: yes
    prompt: a
  - {name: A, prompt: b, num_tokens: 2.5, overwrite: true}
  - {name: a, prompt: c, layers: 3-1, when: 1}
  - just text
  - {prompt: 5, enabled: false, defaults: 1}
  - {num_tokens: true}
"""
    expected = [
        "--method: wrong",
        "b.yaml:1: unknown key 'modle', did you mean 'model'? valid: num_tokens,",
        "b.yaml:2: num_tokens: expected a whole number from 1 to 1000000, found '3'",
        "b.yaml:3: chat: expected true or false, found 'maybe'",
        "b.yaml:3: model does not belong in defaults; move it to the top level of the file",
        "b.yaml:5: name: a name must not contain '/', found '../x'",
        (
            "b.yaml:6: prompt: expected text, found true (in YAML yes and on are true, no and off false; "
            "put text in quotes)"
        ),
        "b.yaml:7: 'prompt' stands twice (also on line 6); keep one",
        "b.yaml:8: num_tokens: expected a whole number from 1 to 1000000, found 2.5",
        "b.yaml:8: overwrite does not belong in a batch file; give it on the command line as --overwrite",
        "b.yaml:9: layers: the range 3-1 runs backwards; write 1-3",
        "b.yaml:9: the name 'a' is also on line 8 (upper and lower case are one); give each entry its own",
        "b.yaml:9: unknown key 'when'; valid: prompt, prompt_file, messages, num_tokens,",
        "b.yaml:10: an entry of prompts: expected keys with values, found 'just text'; write prompts: with",
        "b.yaml:11: defaults does not belong in an entry of prompts; move it to the top level of the file",
        "b.yaml:11: prompt: expected text in quotes, found 5",
        "b.yaml:12: an entry needs its prompt, as prompt, prompt_file or messages",
        "b.yaml:12: num_tokens: expected a whole number from 1 to 1000000, found true",
    ]
    found = faults(text, faults=["--method: wrong"])
    assert len(found) == len(expected)
    for fault, start in zip(found, expected):
        assert fault.startswith(start)


def test_contradictions_are_listed_beside_other_faults(faults):
    found = faults(
        "modle: x\ndefaults: {chat: 1}\nprompts:\n- {prompt: a, system: s}\n- {prompt: b, chat: false, system: s}"
    )
    assert [fault[:20] for fault in found] == ["b.yaml:1: unknown ke", "b.yaml:2: chat: expe", "b.yaml:5: system nee"]


@pytest.mark.parametrize(
    "text, start",
    [
        (b"", "b.yaml: the file is empty"),
        (b"# nothing\n---\n", "b.yaml: the file is empty"),
        (b"\xef\xbb\xbf", "b.yaml: the file is empty"),
        (b"just text", "b.yaml:1: expected keys with values, found 'just text'"),
        (b"- a\n- b", "b.yaml:1: expected keys with values, found a list"),
        (b"model: demo", "b.yaml:1: prompts: expected a list of entries, found nothing"),
        (b"model: demo\nprompts:", "b.yaml:2: prompts: expected a list of entries, found nothing"),
        (b"prompts: []", "b.yaml:1: prompts: expected a list of entries, found an empty list"),
        (b"prompts: text", "b.yaml:1: prompts: expected a list of entries, found 'text'"),
        (b"prompts: {prompt: a}", "b.yaml:1: prompts: expected a list of entries, found a mapping"),
        (b"prompts: [{prompt: a, enabled: false}]", "b.yaml:1: no entry of prompts is enabled; set enabled: true"),
        (b"prompts: [null]", "b.yaml:1: an entry of prompts: expected keys with values, found nothing"),
        (b"prompts: [{prompt: a}]\ndefaults: 5", "b.yaml:2: defaults: expected keys with values, found '5'"),
        (b"prompts: [{prompt: a}]\nprompts: [{prompt: b}]", "b.yaml:2: 'prompts' stands twice (also on line 1)"),
        (b"name: x\nprompts: [{prompt: a}]", "b.yaml:1: name does not belong in the top level of the file; move it"),
        (
            b"enabled: true\nprompts: [{prompt: a}]",
            "b.yaml:1: enabled does not belong in the top level of the file; move",
        ),
        (b"prompts: [{prompt: ''}]", "b.yaml:1: prompt: the prompt is empty"),
        (b"prompts: [{prompt: }]", "b.yaml:1: an entry needs its prompt, as prompt, prompt_file or messages"),
        (b"prompts: [{prompt: a, prompt_file: b}]", "b.yaml:1: an entry has both prompt and prompt_file; keep one"),
        (b"prompts: [{}]", "b.yaml:1: an entry needs its prompt, as"),
        (b"prompts: [{prompt: The answer is: yes}]", "b.yaml:1: not YAML: "),
        (b"prompts: [{prompt_file: gone.txt}]", "b.yaml:1: prompt_file: gone.txt: there is no such file"),
        (b"prompts: [{prompt_file: .}]", "b.yaml:1: prompt_file: .: this is a folder"),
        (b"prompts: [{prompt_file: '-'}]", "b.yaml:1: prompt_file: standard input is for the command line"),
        (b'prompts: [{prompt_file: "a\\0b"}]', "b.yaml:1: prompt_file: expected a path, found a null character"),
        (b"prompts: [{prompt: a, system: b}]", "b.yaml:1: system needs chat, which is off; add --chat (in YAML"),
        (b"prompts: [{prompt: 2024-01-01}]", "b.yaml:1: prompt: expected text, found 2024-01-01 (put text in quotes)"),
        (b"prompts: [{prompt: 2024-13-45}]", "b.yaml:1: prompt: '2024-13-45' has no value in YAML; put it in quotes"),
        (b"prompts: [{prompt: !!bool maybe}]", "b.yaml:1: prompt: 'maybe' has no value in YAML"),
        (b"prompts: [{prompt: !!python/name:os.system }]", "b.yaml:1: prompt: '' has no value in YAML"),
        (b'prompts: [{prompt: "\\ud800"}]', "b.yaml:1: prompt: expected UTF-8 text, found other bytes in '\\ud800'"),
        (b"prompts: [{prompt: [a]}]", "b.yaml:1: prompt: expected text, found a list"),
        (b"prompts: [{prompt: a, layers: {a: 1}}]", "b.yaml:1: layers: expected layer numbers counted from 0"),
        (
            b"prompts: [{prompt: a, num_tokens: 0x" + b"f" * 9000 + b"}]",
            "b.yaml:1: num_tokens: expected a whole number",
        ),
        (b"prompts: [{prompt: a, num_tokens: " + b"9" * 9000 + b"}]", "b.yaml:1: num_tokens: '99"),
        (b"prompts: [{prompt: a, ? [x] : 1}]", "b.yaml:1: an entry of prompts: expected a word as key, found a list"),
        (b"prompts: [{prompt: a, <<: 5}]", "b.yaml:1: <<: expected keys with values, found '5'"),
        (b"prompts:\n\t- prompt: a", "b.yaml:2: not YAML: while scanning for the next token, found character '\\t'"),
        (b"prompts: [{prompt: a}", "b.yaml:1: not YAML: "),
        (b"prompts: *gone", "b.yaml:1: not YAML: found undefined alias 'gone'"),
        (
            b"a: 1\n---\nb: 2",
            "b.yaml:2: not YAML: expected a single document in the stream, but found another document",
        ),
        (b"a: 1\nb: \x00", "b.yaml:2: not YAML: found the character U+0000"),
        (b'a: "\\UFFFFFFFF"', "b.yaml: not YAML: an escape or a number in it has no value"),
        (b"a: \xff", "b.yaml: not UTF-8, found byte 0xff at offset 3"),
        ("prompts: []".encode("utf-16"), "b.yaml: this is UTF-16; save it as UTF-8"),
    ],
)
def test_one_line_says_what_is_wrong(text, start, faults):
    [fault] = faults(text)
    assert fault.startswith(start)


@pytest.mark.parametrize(
    "name", ["''", "' '", "a/b", "CON", "con.txt", "a.", "'a '", ".a", "'a:b'", "'a\\b'", '"a\\tb"', "x" * 201]
)
def test_names_that_are_no_file_names(name, faults):
    [fault] = faults(f"prompts: [{{prompt: a, name: {name}}}]")
    assert fault.startswith("b.yaml:1: name: ")


def test_a_flag_only_setting_is_refused_at_every_level(faults):
    found = faults("quiet: true\ndefaults: {trust_remote_code: true}\nprompts: [{prompt: a, overwrite: true}]")
    assert [fault.split(" does not belong in a batch file; give it")[0] for fault in found] == [
        "b.yaml:1: quiet",
        "b.yaml:2: trust_remote_code",
        "b.yaml:3: overwrite",
    ]


@pytest.mark.parametrize(
    "path, start", [("gone.yaml", "gone.yaml: there is no such file"), (".", ".: this is a folder")]
)
def test_a_file_that_is_none(path, start, write):
    write("")
    with pytest.raises(RequestError) as caught:
        batch_file.read(path, faults=["--x: y"])
    assert caught.value.faults[0] == "--x: y" and caught.value.faults[1].startswith(start)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {num_tokens: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "prompts: *a39",
        LAUGHS + "prompts: [{prompt: *a39, layers: *a39, variants: *a39, enabled: *a39}]",
        MERGES + "prompts: [{<<: *a39, prompt: b}]",
        "prompts: &a [*a]",
        "prompts: [&a {<<: *a, prompt: *a, layers: &b [*b]}]",
        "&a {<<: *a, prompts: *a}",
        "prompts: " + "[" * 5000 + "]" * 5000,
        "prompts: " + "{a: " * 5000 + "}" * 5000,
        "a0: &a0 {}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 3000)) + "defaults: *a2999",
    ],
)
def test_files_made_to_hang_or_crash_end_in_faults_at_once(text, faults):
    start = time.monotonic()
    assert faults(text)
    assert time.monotonic() - start < 10


def test_billions_of_merges_are_read_rightly(write):
    text = "prompts:\n- &a0 {num_tokens: 2, prompt: a0}\n" + "".join(
        f"- &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], prompt: a{n}}}\n" for n in range(1, 30)
    )
    entries = batch_file.read(write(text))
    assert [entry.num_tokens for entry in entries] == [2] * 30 and entries[29].prompt == "a29"


def test_the_same_alias_twice_is_the_same_name_twice(faults):
    [fault] = faults("prompts:\n- &a {prompt: x, name: n}\n- *a\n")
    assert "name 'n' is also on line 2" in fault


def test_an_empty_prompt_file_is_none(faults, write):
    assert faults("prompts: [{prompt_file: }]") == [
        "b.yaml:1: an entry needs its prompt, as prompt, prompt_file or messages"
    ]
    assert batch_file.read(write("prompts: [{prompt_file: , prompt: a}]"))[0].prompt == "a"


def test_keys_of_the_other_script_name_it(faults):
    found = faults("prompts:\n  - prompt: x\n    image: a.png\n    mask_mode: both\n")
    assert [fault.split(": ", 1)[1] for fault in found] == [
        f"{key} is a key of mask_impact_vl.py; run that with this file" for key in ("image", "mask_mode")
    ]


def test_a_whole_file_of_the_other_script_is_a_line_for_each_key(faults):
    entries = "".join(f"- {{image: {number}.png, part: encoder, at: all}}\n" for number in range(9))
    assert faults("prompts:\n" + entries) == [
        f"b.yaml:2: {key} (on 9 lines) is a key of mask_impact_vl.py; run that with this file"
        for key in ("at", "image", "part")
    ]
