"""`python -m mask_impact` on runs that are not finished: what is there so far is shown."""

from pathlib import Path

import pytest
from cutting import TEXT

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("word", ["output/x", "x", "output/x_run.json"])
def test_show_reads_a_run_that_is_not_finished(word, command, cut_off, ask):
    command(*TEXT, "--output-dir", "whole")
    cut_off(3, *TEXT)
    code, out, err = ask("show", word, "--step", 2)
    whole = ask("show", "whole/x", "--step", 2)[1]
    assert (code, err) == (0, []) and out[1] == "not finished: it has steps 0-2 so far"
    assert 'given      " blue bag."' in out and "step 2 of 0-2" in "\n".join(out)
    assert out[out.index("") :] == whole[whole.index("") :]


def test_report_and_compare_read_a_run_that_is_not_finished_and_export_refuses(command, cut_off, ask):
    cut_off(3, *TEXT)
    assert ask("report", "output/x")[0] == 0
    page = Path("output/x_report.html").read_text(encoding="utf-8")
    assert 'id="report-data-2-0"' in page and 'id="report-data-3-0"' not in page
    assert "'output/x' stands for the steps" in ask("show", "output/x_results.csv")[2][0]
    code, _, err = ask("export", "output/x", "--to", "csv")
    assert code == 2 and "this run is not finished" in err[0] and not Path("output/x_results.csv").exists()
    assert ask("compare", "output/x", "output/x")[0] == 0
    assert command(*TEXT)[0] == 0 and not Path("output/x_report.html").exists()


def test_steps_that_cannot_be_read_are_one_line(cut_off, ask):
    cut_off(1, *TEXT)
    Path("output/.partial/x/run.json").write_text("torn", encoding="utf-8")
    code, _, err = ask("show", "output/x")
    assert code == 2 and len(err) == 1 and "start it again" in err[0]
    Path("output/.partial/x/step_0000.safetensors").write_bytes(b"torn")
    code, _, err = ask("show", "output/x")
    assert code == 2 and len(err) == 1 and "no step in it can be read" in err[0]


def test_a_run_that_failed_behind_some_steps_says_so(command, ask, monkeypatch):
    from mask_impact.base.errors import RunError
    from mask_impact.runs import run

    keep = run.Run._keep

    def kept(self, distances):
        keep(self, distances)
        if len(self.steps) == 2:
            raise RunError("the disk is full")

    monkeypatch.setattr(run.Run, "_keep", kept)
    assert command(*TEXT)[0] == 1
    assert ask("show", "output/x")[1][1] == "not finished (failed: the disk is full): it has steps 0-1 so far"


def test_a_result_below_the_output_folder_is_found_beside_a_folder_of_that_name(command, ask):
    assert command("--model", "demo", "--prompt", "The", "--output", "x", "--output-dir", "output/demo")[0] == 0
    Path("demo").mkdir()
    assert ask("show", "demo/x")[1] == ask("show", "output/demo/x")[1]
    assert "there is no such result" in ask("show", "demo/y")[2][0]
