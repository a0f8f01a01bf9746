#!/usr/bin/env python3
"""At which layer, through which head, does a language model's next token depend on which earlier token?

    python mask_impact_analysis.py --model demo --prompt "The capital of France is"
    python mask_impact_analysis.py --config prompts_config.yaml

The method. A decoder layer adds an update to the residual stream. Let x be the layer's input, p the final position, and
D = layer(x)[p] - x[p] the update there. Now hide one earlier token j from the layer: the attention logit of key j is
set to -inf before the softmax, in every head, and everything else stays. The update becomes D_j. How far D_j lies from
D tells how much this layer, at this moment, reads from token j. Every token is hidden in turn, in every layer, and
three things are compared:

    Full     the whole update: attention and MLP
    Attn     what the attention adds to the residual stream
    Head_h   the output sum_k a_k v_k of one query head, before the heads are combined

each by its L2 distance |D - D_j| and its cosine distance 1 - cos(D, D_j). Step 0 looks at the prompt, step k at the
prompt and k generated tokens; each predicts the token that comes next.

`--method rerun` does just that: it runs each layer again for every token. The default, `renormalize`, gets the same
numbers for about the price of two forward passes. Hiding key j only renormalises one query's softmax over the other
keys, so with weights a and head output o the masked output is o + a_j / (1 - a_j) (o - v_j), exactly. All the masked
heads of a layer follow from one set of weights, and go through the rest of the layer as one batch of rows.

What a layer reads need not be what the answer rests on. So the model is also run on to its end with a token hidden from
all that follow it, from the final position, or from one head, and the answer is read (`--knockout`).

BATCH_MODE_GUIDE.md explains the settings and the result files, GLOSSARY.md the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mask_impact.base import console
from mask_impact.settings import command_line, python_names
from mask_impact.settings.text_settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mask_impact.models.loading import LoadedModel
    from mask_impact.runs.planning import PlannedRun
    from mask_impact.runs.run import Run


def main(argv: list[str] | None = None, program: str = "mask_impact_analysis.py") -> int:
    """From the command line to result files; returns the exit code."""
    # Settings, one for each prompt. A wrong request or a missing model stops here, before torch is imported.
    entries: list[Settings] = command_line.read(argv, program)
    from mask_impact.runs import early_check

    checkpoint = early_check.check(entries[0])

    # The model: first what needs no weights, every entry checked against it; then the weights, checked too.
    from mask_impact.models import info
    from mask_impact.runs import batch, batch_summary, dry_run, messages, planning, queue

    model_info = info.examine(entries[0], checkpoint)
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
    """One prompt: in every generation step, in every layer, each token masked in turn."""
    from mask_impact.measure.loop import measured_layers
    from mask_impact.runs.knockouts import make_knockouts
    from mask_impact.runs.messages import progress
    from mask_impact.runs.run import Run

    run = Run(plan, loaded)
    with progress(run, quiet) as bar:
        for layer in measured_layers(loaded.model, run.parts, run.inputs, run.method):
            run.add(layer)
            bar.update()
    run.knockout = make_knockouts(run, quiet)
    return run


@python_names.name_python_arguments(Settings)
def run_masking_experiment(
    prompt: str | Sequence[int] | Sequence[Mapping[str, str]] | None = None,
    model_name: str = Settings.model,
    device: str = Settings.device,
    num_output_tokens: int | None = None,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """The long table of one prompt as a DataFrame, the run record in `df.attrs["run"]`; no file is written.

    `prompt` is text, a list of messages, or token ids, (n,) or (1, n). `num_output_tokens` is 1 if not given; with a
    `continuation` all of its tokens. `settings` are those of BATCH_MODE_GUIDE.md by their YAML names (layers="0-3",
    variants=("full",), chat=True, ...). A loaded `model` with its `tokenizer` is measured as it is, wherever it lies,
    and left as it was. Layers alone are measured unless `knockout` asks for more.

    Raises ValueError, all faults at once, for a wrong request; RunError for what only running can show.
    """
    given = {"model_name": model_name, "device": device, "num_output_tokens": num_output_tokens}
    settings = {"knockout": "none", "prompt": prompt} | given | settings
    return measured(model, tokenizer, **settings).to_dataframe()


@python_names.name_python_arguments(Settings)
def run_knockout(prompt: Any = None, model_name: str = Settings.model, **arguments: Any) -> pd.DataFrame:
    """What the answer rests on: the table of knock-outs; the arguments and the rest as in `run_masking_experiment`."""
    return measured(prompt=prompt, model_name=model_name, **arguments).knockouts_to_dataframe()


def measured(model: Any = None, tokenizer: Any = None, **settings: Any) -> Run:
    """The run that a caller from Python asks for."""
    from mask_impact.models import info
    from mask_impact.runs import from_python

    return from_python.measured(Settings, info, measure, model, tokenizer, **settings)


command = console.command(main, "mask-impact")  # that pip installs
if __name__ == "__main__":
    console.leave(console.exit_code(main))
