"""The command line: prompts from everywhere, contradictions, one line per fault."""

import io
import os
import subprocess
import sys

import pytest
from repository import ROOT

from mask_impact import __version__
from mask_impact.base.errors import RequestError
from mask_impact.settings import command_line


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults(*words: str) -> list[str]:
    with pytest.raises(RequestError) as caught:
        command_line.read(words)
    return list(caught.value.faults)


def stand_in(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


def test_prompt_txt_is_read_where_no_prompt_is_given(folder):
    (folder / "prompt.txt").write_text("By default\n", encoding="utf-8")
    [settings] = command_line.read([])
    assert (settings.prompt, settings.prompt_file, settings.given) == ("By default", "prompt.txt", frozenset())


def test_without_prompt_txt_the_fault_names_the_flag():
    assert faults() == [
        "no prompt is given and there is no prompt.txt in this folder; "
        "give one with --prompt TEXT or --prompt-file FILE"
    ]


@pytest.mark.parametrize(
    "data, prompt",
    [
        (b"a", "a"),
        (b"a\n", "a"),
        (b"a\r\n", "a"),
        (b"a\r", "a"),
        (b"a\n\n", "a\n"),
        (b"a\n\r", "a\n"),
        (b" a \n", " a "),
        (b"\n\n", "\n"),
        (b"\xef\xbb\xbfa\n", "a"),
        (b"\xef\xbb\xbf\xef\xbb\xbfa", "\ufeffa"),
        ("é\r\nü\u2028\n".encode(), "é\r\nü\u2028"),
    ],
)
def test_files_and_standard_input_lose_a_mark_and_one_line_break(data, prompt, folder, monkeypatch):
    (folder / "p").write_bytes(data)
    stand_in(monkeypatch, data)
    assert command_line.read(["--prompt-file", "p"])[0].prompt == prompt
    assert command_line.read(["--prompt-file", "-"])[0].prompt == prompt


@pytest.mark.parametrize(
    "data, part",
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"\xef\xbb\xbf\n", "empty"),
        (b"a\xe9b", "0xe9 at offset 1"),
        ("a".encode("utf-16"), "UTF-16"),
    ],
)
def test_files_and_standard_input_that_hold_no_prompt(data, part, folder, monkeypatch):
    (folder / "p").write_bytes(data)
    stand_in(monkeypatch, data)
    [fault] = faults("--prompt-file", "p")
    assert fault.startswith("p: ") and part in fault
    [fault] = faults("--prompt-file", "-")
    assert fault.startswith("standard input: ") and part in fault


def test_a_file_that_the_system_refuses_is_one_line():
    [fault] = faults("--prompt-file", "x" * 300)
    assert fault.startswith("xxx") and ("cannot be read" in fault or "no such file" in fault)


def test_standard_input_may_be_missing_and_is_not_waited_for_in_vain(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "no standard input" in faults("--prompt-file", "-")[0]
    assert faults("--prompt-file", "-", "--num-tokens", "0") == [
        "--num-tokens: expected a whole number from 1 to 1000000, found 0"
    ]


PIPED = "the prompt is that of prompt.txt, standard input was not read; to read it, add --prompt-file -"


@pytest.fixture
def standard_input(folder, monkeypatch):
    """Put a pipe or a file with these bytes in the place of standard input;
    a pipe stays open at its other end if asked."""
    (folder / "prompt.txt").write_text("By default", encoding="utf-8")
    opened = []

    def put(kind, data=b"", closed=True):
        if kind == "pipe":
            reading, writing = os.pipe()
            os.write(writing, data)
            opened.append(writing)
            if closed:
                os.close(opened.pop())
        else:
            if kind == "file":
                (folder / "given").write_bytes(data)
            reading = os.open(folder / "given" if kind == "file" else os.devnull, os.O_RDONLY)
        monkeypatch.setattr(sys, "stdin", os.fdopen(reading, "r", encoding="utf-8"))

    yield put
    for number in opened:
        os.close(number)


@pytest.mark.parametrize("kind", ["file", "pipe"])
@pytest.mark.parametrize("closed", [True, False])
def test_piped_text_that_is_not_read_is_told_of(kind, closed, standard_input):
    if kind == "pipe":
        pytest.importorskip("fcntl", reason="a pipe is looked into on POSIX alone")
    standard_input(kind, b"A question\n", closed)
    [settings] = command_line.read([])
    assert (settings.prompt, settings.warnings) == ("By default", (PIPED,))
    assert os.read(sys.stdin.fileno(), 100) == b"A question\n"


@pytest.mark.parametrize("kind, closed", [("pipe", True), ("pipe", False), ("file", True), ("nothing", True)])
def test_standard_input_without_text_is_passed_over_at_once(kind, closed, standard_input):
    standard_input(kind, closed=closed)
    assert command_line.read([])[0].warnings == ()


@pytest.mark.parametrize(
    "words", [["--prompt", "P"], ["--prompt-file", "prompt.txt"], ["--prompt-file", "-"], ["--config", "b.yaml"]]
)
def test_standard_input_beside_a_named_prompt_is_passed_over(words, folder, standard_input):
    (folder / "b.yaml").write_text("prompts: [{prompt: a}]", encoding="utf-8")
    standard_input("file", b"A question\n")
    assert command_line.read(words)[0].warnings == ()


@pytest.mark.parametrize(
    "words, start",
    [
        (["--prompt", ""], "--prompt: the prompt is empty"),
        (["--prompt", "\udce9"], "--prompt: expected UTF-8 text, found other bytes in '\\udce9'"),
        (["--prompt-file", "gone"], "gone: there is no such file"),
        (["--prompt-file", "."], ".: this is a folder"),
        (["--prompt-file", ""], "--prompt-file: expected text, found none"),
        (["--prompt", "P", "--num-tokens", "0"], "--num-tokens: expected a whole number from 1 to 1000000, found 0"),
        (
            ["--prompt", "P", "--num-tokens", "3.0"],
            "--num-tokens: expected a whole number from 1 to 1000000, found '3.0'",
        ),
        (["--prompt", "P", "--num-tokens", "٣"], "--num-tokens: expected a whole number"),
        (["--prompt", "P", "--num-tokens", "9" * 9000], "--num-tokens: expected a whole number"),
        (["--prompt", "P", "--num-tokens", ""], "--num-tokens: expected a whole number"),
        (["--prompt", "P", "--device", "gpu"], "--device: expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"),
        (
            ["--prompt", "P", "--layers=-1"],
            "--layers: expected layer numbers counted from 0, such as 0-3,10, found '-1'",
        ),
        (["--prompt", "P", "--output", "../x"], "--output: a name must not contain '/', found '../x'"),
        (["--prompt", "P", "--prompt-file", "x"], "--prompt does not go with --prompt-file"),
        (["--prompt", "P", "--system", "S"], "system needs chat, which is off; add --chat"),
        (["--prompt", "P", "--no-chat", "--thinking"], "thinking needs chat, which is off; add --chat"),
        (["--prompt", "P", "--chat", "--no-chat"], "--chat and --no-chat: two different values are given; keep one"),
        (["--prompt", "P", "--layers", "1", "--layers", "2"], "--layers '1' and '2': two different values are given"),
        (["--config", "a", "--prompt", "P"], "--config does not go with --prompt; "),
        (["--prompt", "P", "--num", "3"], "unknown flag '--num'"),
        (["--promt", "P"], "unknown flag '--promt', did you mean '--prompt'?; see --help"),
        (["--prompt", "P", "--layer=3"], "unknown flag '--layer=3', did you mean '--layers'?"),
        (["--prompt", "The", "capital", "of"], "unexpected 'capital', 'of'; give the prompt with --prompt, in quotes"),
        (["--prompt"], "--prompt: expected one argument; write --flag=VALUE where the value begins with"),
        (["--prompt", "P", "--chat=yes"], "--chat: "),
    ],
)
def test_one_line_says_what_is_wrong(words, start):
    found = faults(*words)
    assert found[0].startswith(start) and found[0].isprintable() and len(found[0]) < 300
    assert len(found) == 1 or "--config" in words  # that file is not there either


@pytest.mark.parametrize(
    "flag, value", [("--prompt", "P"), ("--prompt-file", "x"), ("--continuation", "c"), ("--output", "n")]
)
def test_what_belongs_in_entries_does_not_go_with_config(flag, value, folder):
    (folder / "b.yaml").write_text("prompts: [{prompt: a}]", encoding="utf-8")
    assert faults("--config", "b.yaml", flag, value) == [
        f"--config does not go with {flag}; write that into the file's entries, or leave --config out"
    ]


def test_all_faults_of_flags_and_file_are_listed(folder):
    (folder / "b.yaml").write_text("modle: x\nprompts: [{prompt: a, num_tokens: 0}]", encoding="utf-8")
    found = faults("--config", "b.yaml", "--device", "gpu", "--dtype", "int8", "--what")
    assert [fault.split()[0] for fault in found] == ["unknown", "--device:", "--dtype:", "b.yaml:1:", "b.yaml:2:"]
    assert len(faults("--config", "gone.yaml", "--device", "gpu")) == 2
    assert len(faults("--device", "gpu", "--thinking", "--prompt-file", "gone")) == 3


def test_flags_win_over_the_file_for_every_entry(folder):
    (folder / "b.yaml").write_text(
        "model: a\ndefaults: {num_tokens: 2}\nprompts: [{prompt: a, num_tokens: 3}, {prompt: b, chat: true}]",
        encoding="utf-8",
    )
    entries = command_line.read(["--config", "b.yaml", "--num-tokens", "9", "--model", "demo", "--no-chat", "--quiet"])
    assert [(s.prompt, s.num_tokens, s.model, s.chat, s.quiet) for s in entries] == [
        ("a", 9, "demo", False, True),
        ("b", 9, "demo", False, True),
    ]


def test_a_prompt_that_begins_with_a_dash_goes_with_an_equals_sign():
    assert command_line.read(["--prompt=--chat"])[0].prompt == "--chat"
    assert command_line.read(["--prompt", "- 5 is"])[0].prompt == "- 5 is"


def test_the_same_flag_twice_with_one_value_is_no_fault():
    assert command_line.read(["--prompt", "P", "--quiet", "--quiet", "--device", "cpu", "--device", "cpu"])[0].quiet


def test_formats_asked_for_by_name_are_told_from_the_default():
    assert "formats" in command_line.read(["--prompt", "P", "--formats", "csv,json"])[0].given
    assert "formats" not in command_line.read(["--prompt", "P"])[0].given


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_stop_with_0(flag, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        command_line.read([flag], program="some_front_door.py")
    printed = capsys.readouterr().out
    assert caught.value.code == 0 and printed.isascii()
    if flag == "--version":
        assert printed.startswith(f"mask-impact {__version__}, torch ") and printed.count("\n") == 1
    else:
        assert "python some_front_door.py --config prompts_config.yaml" in printed
        assert "(default: csv,json; past 1,048,575 rows parquet)" in " ".join(printed.split())


def test_version_says_which_library_is_missing(monkeypatch):
    def missing(name):
        raise command_line.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(command_line.importlib.metadata, "version", missing)
    assert "torch not installed, transformers not installed, Python" in command_line.versions()


def test_the_command_line_is_read_without_torch():
    code = (
        "import sys; from mask_impact.runs import result_names; from mask_impact.settings import command_line; "
        "command_line.read(['--prompt', 'P'])\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_a_prompt_file(folder):
    os.mkfifo("pipe")
    writer = subprocess.Popen([sys.executable, "-c", "open('pipe', 'w').write('From a pipe\\n')"], cwd=folder)
    assert command_line.read(["--prompt-file", "pipe"])[0].prompt == "From a pipe"
    assert writer.wait(timeout=30) == 0


@pytest.mark.parametrize("flag", ["--image", "--mask-mode", "--max-image-tokens"])
def test_flags_of_the_other_script_name_it(flag):
    assert faults("--prompt", "x", flag, "y") == [f"{flag} is a flag of mask_impact_vl.py; run that"]
    assert faults("--prompt", "x", f"{flag}=y") == [f"{flag} is a flag of mask_impact_vl.py; run that"]
