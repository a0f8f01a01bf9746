"""Result names: derived, checked, and kept apart from what is there."""

import json

import pytest

from mask_impact.base import file_names
from mask_impact.base.errors import RequestError
from mask_impact.results import folder as names_folder
from mask_impact.runs import result_names
from mask_impact.settings.text_settings import Settings

FACTS = {"device": "cpu", "model_revision": "abc"}


@pytest.mark.parametrize(
    "prompt, name",
    [
        ("The capital of France is", "the_capital_of_france_is"),
        ("  Émile's naïve\nquestion?", "emile_s_naive_question"),
        ("2 + 2 =", "2_2"),
        ("snake_case", "snake_case"),
        ("日本の首都は", "prompt"),
        ("?!", "prompt"),
        ("NUL", "prompt_nul"),
        ("x" * 50, "x" * 40),
        ("word " * 20, "word_word_word_word_word_word_word_word"),
        ("a" * 39 + " b", "a" * 39),
        ("a" * 38 + " b", "a" * 38 + "_b"),
    ],
)
def test_a_name_is_made_of_the_first_words(prompt, name):
    assert file_names.derive_name(prompt) == name
    assert file_names.check_name(name) is None


@pytest.mark.parametrize("more", [{"units": ["words"]}, {"spans": {"a": "P"}}, {"pairs": 2}, {"knockout": "all"}])
def test_a_run_of_units_or_cuts_is_another_run(more):
    """Though a plain run's file says nothing of them."""
    plain, other = (Settings.from_python(prompt="P", **settings) for settings in ({}, more))
    for then, now in ((plain, other), (other, plain)):
        record = {"settings": then.to_record(), **FACTS}
        assert result_names.differing_settings(record, now, FACTS) == list(more)
        assert result_names.differing_settings(record, then, FACTS) == []


@pytest.mark.parametrize(
    "name, part",
    [
        ("", "empty"),
        ("  ", "empty"),
        ("../x", "'/'"),
        ("a/b", "'/'"),
        ("a\\b", "'\\\\'"),
        ("a:b", "':'"),
        ("a?", "'?'"),
        ('a"', "'\"'"),
        ("a\nb", "'\\n'"),
        ("a\0", "'\\x00'"),
        ("a\x7f", "'\\x7f'"),
        ("\ud800", "'\\ud800'"),
        (".", "dot"),
        ("..", "dot"),
        (".a", "dot"),
        ("a.", "dot"),
        ("a ", "space"),
        (" a", "space"),
        ("CON", "Windows"),
        ("con.txt", "Windows"),
        ("Com1", "Windows"),
        ("nul .x", "Windows"),
        ("lpt²", "Windows"),
        ("x" * 201, "200 bytes"),
        ("é" * 101, "200 bytes"),
    ],
)
def test_names_that_are_no_file_names(name, part):
    assert part in file_names.check_name(name)


@pytest.mark.parametrize("name", ["a", "A b", "con1", "x.y", "über", "日本", "é" * 100, "-x", "com", "console"])
def test_names_that_are_file_names(name):
    assert file_names.check_name(name) is None


@pytest.fixture
def out(tmp_path):
    """The output folder, with a function that leaves a run of some settings there."""

    def leave(name: str, settings: Settings | None, status: str = "complete", formats=("csv", "json"), **more) -> None:
        if settings is not None:
            record = {"status": status, "settings": settings.to_record(), **FACTS, **more}
            (tmp_path / f"{name}_run.json").write_text(json.dumps(record), encoding="utf-8")
        for ending in formats:
            (tmp_path / f"{name}_results.{ending}").write_text("x", encoding="utf-8")

    leave.folder = str(tmp_path)
    return leave


def wanted(out, **changes) -> Settings:
    return Settings(**{"prompt": "Hello you", "output_dir": out.folder, **changes})


def test_a_free_name_is_taken_as_it_is(out):
    assert result_names.choose_name(wanted(out), FACTS) == result_names.NameChoice("hello_you")
    assert result_names.choose_name(wanted(out, name="X"), FACTS) == result_names.NameChoice("X")
    assert result_names.choose_name(
        wanted(out, output_dir=out.folder + "/not/there"), FACTS
    ) == result_names.NameChoice("hello_you")


def test_a_derived_name_goes_past_other_runs_until_it_finds_its_own(out):
    out("hello_you", wanted(out, num_tokens=5))
    out("hello_you_2", wanted(out, layers=(0,)), status="failed")
    assert result_names.choose_name(wanted(out), FACTS).name == "hello_you_3"
    assert result_names.choose_name(wanted(out, overwrite=True), FACTS).name == "hello_you_3"
    out("hello_you_3", wanted(out))
    choice = result_names.choose_name(wanted(out), FACTS)
    assert choice.name == "hello_you_3" and choice.record["status"] == "complete"
    assert choice.formats == {"csv", "json"}
    assert result_names.choose_name(wanted(out, overwrite=True), FACTS) == result_names.NameChoice("hello_you_3")


def test_a_given_name_that_another_run_holds_stops_and_names_the_difference(out):
    out("x", wanted(out, num_tokens=5, layers=(1,)))
    with pytest.raises(RequestError) as caught:
        result_names.choose_name(wanted(out, name="x", place="b.yaml:3"), FACTS)
    assert str(caught.value) == (
        f"b.yaml:3: the name 'x' is taken in {out.folder!r} by a run with other settings "
        "(num_tokens, layers); choose another or add --overwrite"
    )
    assert result_names.choose_name(wanted(out, name="x", overwrite=True), FACTS) == result_names.NameChoice("x")


def test_a_given_name_that_holds_this_very_run_is_there(out):
    out("x", wanted(out, name="x"), formats=["csv"])
    choice = result_names.choose_name(wanted(out, name="x", quiet=True, formats=["parquet"]), FACTS)
    assert choice.record and choice.formats == {"csv"}


def test_a_run_that_did_not_finish_is_run_again_under_its_name(out):
    out("hello_you", wanted(out), status="running")
    assert result_names.choose_name(wanted(out), FACTS) == result_names.NameChoice("hello_you")


@pytest.mark.parametrize("record", [None, "", "[]", "{", '{"status": "complete"}', '{"settings": 5}', "[" * 100_000])
def test_files_that_no_record_explains_are_left_alone(out, record, tmp_path):
    out("hello_you", None)
    if record is not None:
        (tmp_path / "hello_you_run.json").write_text(record, encoding="utf-8")
    assert result_names.choose_name(wanted(out), FACTS).name == "hello_you_2"
    with pytest.raises(RequestError, match="--overwrite"):
        result_names.choose_name(wanted(out, name="hello_you"), FACTS)


@pytest.mark.parametrize("file", ["HELLO_you_RUN.json", "Hello_You_results.parquet", "hello_you_results.txt"])
def test_names_are_compared_without_case(out, file, tmp_path):
    (tmp_path / file).write_text("{}", encoding="utf-8")
    assert result_names.choose_name(wanted(out), FACTS).name == "hello_you_2"


def test_the_name_is_written_as_the_run_that_is_there_has_it(out):
    out("Hello_You", wanted(out))
    assert result_names.choose_name(wanted(out), FACTS).name == "Hello_You"
    assert (
        result_names.choose_name(wanted(out, name="HELLO_YOU", overwrite=True, num_tokens=4), FACTS).name == "Hello_You"
    )


def test_two_unicode_forms_are_one_name(out):
    out("u\u0308ber", None)
    with pytest.raises(RequestError):
        result_names.choose_name(wanted(out, name="\u00fcber"), FACTS)


def test_files_of_other_kinds_hold_no_name(out, tmp_path):
    for file in ("hello_you.txt", "hello_you_results", "hello_you_run.json.tmp", "hello_you_more_run.json"):
        (tmp_path / file).write_text("{}", encoding="utf-8")
    assert result_names.choose_name(wanted(out), FACTS).name == "hello_you"


def test_a_folder_that_is_a_file_is_one_fault(out, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RequestError, match="cannot list .*choose another folder"):
        result_names.choose_name(wanted(out, output_dir=str(tmp_path / "file")), FACTS)


def test_differences_are_of_numbers_and_facts_alone(out):
    settings = wanted(out)
    record = {"settings": json.loads(json.dumps(settings.to_record())), **FACTS}
    same = wanted(out, name="other", formats="csv", quiet=True, overwrite=True, prompt_file="x")
    assert result_names.differing_settings(record, same, FACTS) == []
    assert result_names.differing_settings(record, wanted(out, method="rerun"), FACTS) == ["method"]
    assert result_names.differing_settings(record, wanted(out, device="cpu"), FACTS) == []
    assert result_names.differing_settings(record, settings, {}) == []
    assert result_names.differing_settings(record, settings, FACTS | {"device": "cuda:0"}) == ["device"]
    assert result_names.differing_settings(record, settings, FACTS | {"new_fact": None}) == []
    del record["settings"]["layers"]
    assert result_names.differing_settings(record, settings, FACTS) == ["layers"]


def test_a_batch_gets_names_no_two_alike(out):
    entries = [wanted(out), wanted(out, num_tokens=2), wanted(out, name="Hello_you_2"), wanted(out)]
    chosen = result_names.choose_names(entries, [FACTS] * 4)
    assert [choice.name for choice in chosen] == ["hello_you", "hello_you_3", "Hello_you_2", "hello_you_4"]
    for entry, choice in zip(entries, chosen):
        out(choice.name, entry)
    again = result_names.choose_names(entries, [FACTS] * 4)
    assert [choice.name for choice in again] == [choice.name for choice in chosen]
    assert all(choice.record for choice in again)


def test_a_batch_lists_every_name_that_is_taken(out):
    out("a", None)
    out("b", None)
    entries = [wanted(out, name="a"), wanted(out), wanted(out, name="b")]
    with pytest.raises(RequestError) as caught:
        result_names.choose_names(entries, [FACTS] * 3)
    assert len(caught.value.faults) == 2


def test_a_failed_run_gives_way_and_says_why(out):
    """To the same request, and under a given name to another one too: there is no result to lose."""
    out("x", wanted(out, name="x"), status="failed", reason="no memory")
    for settings in (wanted(out, name="x"), wanted(out, name="x", num_tokens=5)):
        assert result_names.choose_name(settings, FACTS) == result_names.NameChoice(
            "x", earlier="failed before (no memory)"
        )


def test_what_it_was_computed_with_is_spelt_out(out):
    then, now = {"computed_with": {"torch": "2", "threads": 2}}, {"computed_with": {"torch": "2", "threads": 8}}
    out("x", wanted(out, name="x"), **then)
    assert result_names.choose_name(wanted(out, name="x"), FACTS | then).record
    with pytest.raises(RequestError, match=r"other settings \(threads 2 then and 8 now\)"):
        result_names.choose_name(wanted(out, name="x"), FACTS | now)


def test_a_batch_lists_its_folder_once(tmp_path, monkeypatch):
    listed, real = [], names_folder.OutputFolder
    monkeypatch.setattr(result_names, "OutputFolder", lambda folder: listed.append(folder) or real(folder))
    entries = [Settings(prompt=prompt, output_dir=str(tmp_path)) for prompt in ("a", "a", "b")]
    assert [choice.name for choice in result_names.choose_names(entries, [{}] * 3)] == ["a", "a_2", "b"] and len(
        listed
    ) == 1
