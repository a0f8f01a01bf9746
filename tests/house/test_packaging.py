"""What pip installs: the package, both front doors, the viewer's page and the demo models, used from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
from repository import ROOT

import mask_impact
from mask_impact.base.package_data import package_data

CARRIED = ("visualize_results.html", "demo/text/model", "demo/vision/model")
QUIET = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "encoding": "utf-8"}


def call(*words, **options):
    """Run a program without the checkout on its path; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(word) for word in words], env=environment, **QUIET, **options)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built with the build backend that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, ROOT)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The programs of a new environment that has the wheel, and finds all other packages in this one."""
    place = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    packages = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    others = [path for path in sys.path if path.endswith("-packages")]
    (packages / "others.pth").write_text("\n".join(others), encoding="utf-8")
    return SimpleNamespace(python=python, folder=python.parent, packages=packages)


def test_the_wheel_holds_the_package_the_front_doors_and_what_they_read(wheel):
    held = set(ZipFile(wheel).namelist())
    assert wheel.name == f"token_masking_impact_analysis-{mask_impact.__version__}-py3-none-any.whl"
    assert {"mask_impact_analysis.py", "mask_impact_vl.py", "mask_impact/py.typed"} <= held
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "mask_impact").rglob("*.py")} <= held
    for name in CARRIED:
        files = [package_data(name)] if package_data(name).is_file() else [*package_data(name).iterdir()]
        assert files and {f"mask_impact/data/{path.relative_to(ROOT).as_posix()}" for path in files} <= held
    assert {name.split("/")[0].split("-")[0] for name in held} == {
        "mask_impact",
        "mask_impact_analysis.py",
        "mask_impact_vl.py",
        "token_masking_impact_analysis",
    }


def test_everything_is_imported_from_where_it_is_installed(installed, tmp_path):
    program = (
        "import mask_impact as m, mask_impact_analysis as a, mask_impact_vl as v\n"
        "print(m.__file__, a.__file__, v.__file__)"
    )
    files = call(installed.python, "-c", program, cwd=tmp_path).split()
    assert len(files) == 3 and all(Path(file).is_relative_to(installed.packages) for file in files)


def test_the_demo_runs_from_another_folder(installed, tmp_path):
    words = ["--model", "demo", "--prompt", "The capital of France is", "--output", "france", "--report"]
    assert "generated" in call(installed.folder / "mask-impact", *words, cwd=tmp_path)
    table = mask_impact.read_results(tmp_path / "output" / "france_results.csv")
    assert len(table) and table.attrs["run"]["status"] == "complete"
    assert 'id="report-table"' in (tmp_path / "output" / "france_report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_the_demo_with_a_picture_runs_from_another_folder(installed, tmp_path):
    words = ["--model", "demo", "--image", ROOT / "testimg.png", "--prompt", "What color is the circle?"]
    assert "generated 'red" in call(installed.folder / "mask-impact-vl", *words, "--output", "circle", cwd=tmp_path)
    assert len(mask_impact.read_results(tmp_path / "output" / "circle_results.csv"))


@pytest.mark.parametrize("name", ["mask-impact", "mask-impact-vl"])
def test_a_command_calls_itself_by_its_own_name_and_ends_as_the_script_does(name, installed, tmp_path):
    said = call(installed.folder / name, "--help", cwd=tmp_path)
    assert said.startswith(f"usage: {name} ") and f"\n  {name} --model demo " in said and ".py" not in said
    wrong = subprocess.run([installed.folder / name, "--wat"], cwd=tmp_path, **QUIET)
    assert (
        (wrong.returncode, wrong.stdout) == (2, "") and wrong.stderr.startswith("error: ") and "--wat" in wrong.stderr
    )
