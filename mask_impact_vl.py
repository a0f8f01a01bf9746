#!/usr/bin/env python3
"""At which layer, through which head, does a vision-language model's next token depend on which word or image patch?

    python mask_impact_vl.py --model demo --image testimg.png --prompt "What color is the circle?" --mask-mode both
    python mask_impact_vl.py --model demo --image testimg.png --part encoder --at 1,2 --report
    python mask_impact_vl.py --config prompts_config_vl.yaml

The method is explained in mask_impact_analysis.py; here tokens may be words or cells of a picture.

    --mask-mode text, vision or both    hides in turn the text tokens (the default), the picture's cells, or both;
                                        `img0[3,5]` is row 3, column 5 of the first picture
    --part encoder --at ROW,COL         measures the encoder in place of the decoder: in each block every cell is hidden
                                        in turn from one cell, whose update is compared; `--at all` from each

VL_IMPLEMENTATION.md has a picture's way in numbers, BATCH_MODE_GUIDE.md the settings, GLOSSARY.md the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from mask_impact.base import console
from mask_impact.settings import command_line, python_names
from mask_impact.settings.vision_settings import DESCRIPTION, EXAMPLES, VisionSettings

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mask_impact.models.loading import LoadedModel
    from mask_impact.runs.planning import PlannedRun
    from mask_impact.runs.run import Run


def main(argv: list[str] | None = None, program: str = "mask_impact_vl.py") -> int:
    """From the command line to result files; returns the exit code."""
    # Settings, one for each prompt. A wrong request or a missing model stops here, before torch is imported.
    entries = command_line.read(argv, program, VisionSettings, DESCRIPTION, EXAMPLES)
    from mask_impact.runs import early_check

    checkpoint = early_check.check(entries[0])

    # The model: first what needs no weights, every entry and picture checked against it; then the weights, checked.
    from mask_impact.models.vision import qwen3_vl
    from mask_impact.runs import batch, batch_summary, dry_run, messages, planning, queue

    model_info = qwen3_vl.examine(entries[0], checkpoint)
    asked = planning.plan_all(entries, model_info)
    if entries[0].dry_run:
        return dry_run.report(asked, model_info)
    failures: list[batch.Failure] = []
    plans = batch.still_to_measure(asked, failures)
    if plans:
        loaded = batch.load(plans, model_info)

        # The measurement and its files. A prompt that fails is recorded, the others go on; a batch ends with a table.
        for plan in queue.locked_plans(plans, loaded, failures):
            with batch.catch_failure(failures, plan, loaded):
                messages.before(plan, loaded)
                run = measure(plan, loaded, entries[0].quiet)
                messages.after(run, batch.write(plan, run))
    batch_summary.print_and_write(asked, failures)
    return batch.exit_code(asked, failures)


def measure(plan: PlannedRun, loaded: LoadedModel, quiet: bool = True) -> Run:
    """One prompt, or a picture's encoder: in every generation step and layer, each word or cell masked in turn."""
    from mask_impact.measure.loop import measured_layers
    from mask_impact.runs.knockouts import make_knockouts
    from mask_impact.runs.messages import progress
    from mask_impact.runs.run import Run

    run = Run(plan, loaded)
    with plan.prompt.encoded_once(loaded.model):
        with progress(run, quiet) as bar:
            for layer in measured_layers(loaded.model, run.parts, run.inputs, run.method):
                run.add(layer)
                bar.update()
        run.knockout = make_knockouts(run, quiet)
    return run


@python_names.name_python_arguments(VisionSettings)
def run_vl_masking_experiment(
    prompt: str | Sequence[int] | Sequence[Mapping[str, str]] | None = None,
    image: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    mask_mode: str = VisionSettings.mask_mode,
    model_name: str = VisionSettings.model,
    device: str = VisionSettings.device,
    num_output_tokens: int | None = None,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    image_processor: Any = None,
    **settings: Any,
) -> pd.DataFrame:
    """The long table of one prompt as a DataFrame, the run record in `df.attrs["run"]`; no file is written.

    `image` is a path or a list; a prompt of token ids holds one image token for each, or all of them. `part="encoder"`
    takes no prompt, but `at="3,5"`. The rest is as in `run_masking_experiment`; a loaded model's `image_processor` is
    needed only if not Qwen3-VL's own.

    Raises ValueError, all faults at once, for a wrong request; RunError for what only running can show.
    """
    given = {"mask_mode": mask_mode, "model_name": model_name, "device": device, "num_output_tokens": num_output_tokens}
    settings = {"knockout": "none", "prompt": prompt, "image": image} | given | settings
    return measured(model, tokenizer, image_processor, **settings).to_dataframe()


@python_names.name_python_arguments(VisionSettings)
def run_knockout(prompt: Any = None, image: Any = None, mask_mode: str = "text", **arguments: Any) -> pd.DataFrame:
    """What the answer rests on: the table of knock-outs; arguments and the rest as in `run_vl_masking_experiment`."""
    return measured(prompt=prompt, image=image, mask_mode=mask_mode, **arguments).knockouts_to_dataframe()


def measured(model: Any = None, tokenizer: Any = None, image_processor: Any = None, **settings: Any) -> Run:
    """The run that a caller from Python asks for."""
    from mask_impact.models.vision import qwen3_vl
    from mask_impact.runs import from_python

    return from_python.measured(VisionSettings, qwen3_vl, measure, model, tokenizer, image_processor, **settings)


command = console.command(main, "mask-impact-vl")  # that pip installs
if __name__ == "__main__":
    console.leave(console.exit_code(main))
