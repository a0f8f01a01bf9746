"""The command as a process of its own, as people run it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import ROOT
from running import files_in, record_of

from mask_impact import read_results

pytestmark = pytest.mark.usefixtures("here")
DEMO = ROOT / "demo" / "text" / "model"


def subprocess_of(*words, **options):
    """Run the command as people do, without the hub's offline switch and with an empty cache."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY")
    }
    environment |= {"HF_HOME": str(Path.cwd() / "hf"), "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    script = [sys.executable, str(ROOT / "mask_impact_analysis.py"), *map(str, words)]
    return subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def finished(process, text=None):
    """(exit code, lines on standard output, lines on standard error), both as UTF-8."""
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out.decode("utf-8").splitlines(), err.decode("utf-8").splitlines()


def test_a_process_in_another_folder_and_another_encoding(llama):
    """Standard input and output are UTF-8 whatever Python was told, and transformers prints nothing of its own."""
    process = subprocess_of(
        "--model",
        llama,
        "--prompt-file",
        "-",
        "--output",
        "naïve",
        "--layers",
        0,
        stdin=subprocess.PIPE,
        env={"PYTHONIOENCODING": "ascii"},
    )
    code, out, err = finished(process, "Ein Café 😀\n".encode())
    assert (code, err, len(out)) == (0, [], 4) and out[0].startswith("naïve: 13 tokens, 1 step, 1 layer")
    assert record_of("naïve")["settings"]["prompt"] == "Ein Café 😀"
    assert len(read_results("output/naïve_results.csv")) == 6 * 13


def test_the_demo_model_is_found_from_anywhere():
    if not (DEMO / "model.safetensors").is_file():
        pytest.skip("the demo model demo/text/model is not there")
    code, out, err = finished(subprocess_of("--model", "demo", "--prompt", "The capital of France is"))
    assert (code, err) == (0, []) and "generated ' Paris'" in out[-1]


def test_a_full_disk_leaves_no_torn_file(llama):
    resource = pytest.importorskip("resource", reason="file sizes can be limited on POSIX alone")

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = subprocess_of("--model", llama, "--prompt", "The cat " * 10, "--output", "cat", preexec_fn=small_disk)
    code, _, err = finished(process)
    assert code == 1 and err[0].startswith("error: cat: ") and "could not be written: File too large" in err[0]
    assert [name for name in files_in("output") if name != "cat_run.json"] == []
    assert record_of("cat")["status"] == "failed"


def test_a_process_interrupted_twice_ends_at_once_with_130(llama):
    process = subprocess_of("--model", llama, "--prompt", "x" * 250, "--method", "rerun", "--num-tokens", 7)
    assert b"250 tokens" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith(b"stopping after the generation step at work; Ctrl-C again")
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    assert (code, err) == (
        130,
        ["error: interrupted; what was finished is kept, and the same command goes on from there"],
    )
    assert files_in("output") == [".partial"]


def test_a_hub_that_never_answers_is_given_up_within_five_seconds():
    """A busy machine may start Python slowly, hence 8."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        code, out, err = finished(subprocess_of("--prompt", "P", env={"HF_ENDPOINT": address}))
    assert time.monotonic() - started < 8
    assert (code, out, len(err)) == (2, [], 1)
    assert (
        "Qwen/Qwen3-0.6B" in err[0] and "the hub cannot be reached (no answer in 3.5 seconds); --model demo" in err[0]
    )


def test_a_wrong_flag_is_answered_without_torch():
    program = (
        "import sys, mask_impact_analysis as m; c = m.console.exit_code(lambda: m.main(['--wat'])); "
        "print(c, 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["2", "False"] and answer.stderr.startswith("error: unknown flag '--wat'")
