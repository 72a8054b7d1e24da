"""What the user should know of a prepared sweep before trusting the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from schedcmp.checkpoint.emphasis import A1111
from schedcmp.checkpoint.tokens import cut_prompts
from schedcmp.pipelines.guidance import inert_guidance
from schedcmp.records import Length
from schedcmp.registry.build import told_left_out
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.notation import foreign_notation
from schedcmp.sweep.parts.steps import Search
from schedcmp.truth.energy import FEWEST_SEEDS

if TYPE_CHECKING:
    from schedcmp.prepare.prepared import Prepared


def remarks(prepared: Prepared) -> Iterator[str]:
    """In sentences, those on the whole sweep first."""
    sweep, checkpoint, texts = prepared.sweep, prepared.checkpoint, _texts(prepared.sweep)
    yield from prepared.source.remarks
    yield from prepared.plan.warnings
    yield from checkpoint.remarks
    if prepared.loras.adapters and sweep.timing.mode == "solo":
        yield "latencies with a LoRA include its layers, which would cost nothing if they were fused into the weights"
    if prepared.loras.adapters and sweep.optimize.compile:
        yield "optimize: compile: the denoiser is compiled once for each LoRA and weight, and once without"
    yield from filter(None, (found.leaves(prepared.supported) for found in prepared.few_steps))
    yield from filter(None, [told_left_out(prepared.scheduler_config)])
    syntaxes = {*(sweep.prompt_syntax or ())}
    yield from foreign_notation(texts, weights=A1111 in syntaxes)
    if syntaxes != {A1111}:  # which reads long ones in chunks
        yield from cut_prompts(checkpoint, texts)
    yield from _inert_guidance(prepared)
    for _, reason, where in _gathered({at: (why,) for at, why in prepared.unsupported.items()}):
        yield f"unsupported: {reason}{where}"
    for label, remark, where in _gathered({at: found.remarks for at, found in prepared.trajectories.items()}):
        yield f"{label}: {remark}{where}"
    yield from _unsearched(prepared)
    yield from _idle_options(prepared)
    yield from _unrepeatable(prepared)


def _texts(sweep: Sweep) -> dict[str, str]:
    """What the text encoders are given, by what it is called."""
    prompts, negatives = sweep.prompt, [text for text in sweep.negative_prompt if text]
    named = {f"prompt {name}" if len(prompts) > 1 else "prompt": text for name, text in prompts.items()}
    return named | {f"negative_prompt {i}" if i else "negative_prompt": text for i, text in enumerate(negatives)}


def _inert_guidance(prepared: Prepared) -> Iterator[str]:
    """What of the sweep's guidance and negative prompts changes nothing."""
    sweep, checkpoint = prepared.sweep, prepared.checkpoint
    scales, negatives = sweep.guidance_scale or (), sweep.negative_prompt
    for told in inert_guidance(checkpoint.pipeline_class, checkpoint.config, scales, negatives, sweep.call):
        if prepared.own_guidance is None or told.startswith("negative_prompt"):
            yield told


def _gathered(texts: Mapping[Length, Iterable[str]]) -> Iterator[tuple[str, str, str]]:
    """(label, text, where) for texts by label and steps; where is empty if it holds for all of the label's steps."""
    steps: dict[str, dict[int, None]] = {}
    found: dict[tuple[str, str], dict[int, None]] = {}
    for (label, n, _), told in texts.items():
        steps.setdefault(label, {})[n] = None
        for text in told:
            found.setdefault((label, text), {})[n] = None
    for (label, text), at in found.items():
        yield label, text, "" if at == steps[label] else f" (at {', '.join(map(str, at))} steps)"


def _unsearched(prepared: Prepared) -> Iterator[str]:
    """Of which schedulers it cannot be found how many steps they need."""
    steps, references = prepared.sweep.steps, prepared.references
    if not isinstance(steps, Search) or references is None:
        return
    tried = ", ".join(map(str, steps.first))
    for label in prepared.recipes:
        if label not in references.sampling:
            yield f"{label}: solves another equation, so no number of steps is near enough: it is tried at {tried}"
        elif label not in references.comparable and len(prepared.sweep.seeds) < FEWEST_SEEDS:
            yield f"{label}: draws noise, so how many steps it needs takes {FEWEST_SEEDS} seeds: tried at {tried}"


def _idle_options(prepared: Prepared) -> Iterator[str]:
    """What of the sweep's own entries changes nothing."""
    from schedcmp.truth.idle import idle_options

    for label, recipe in prepared.recipes.items():
        yield from idle_options(recipe, prepared.scheduler_config, prepared.steps_of(label))


def _unrepeatable(prepared: Prepared) -> Iterator[str]:
    """Which schedulers make other images each time, whatever the engine does."""
    for label, recipe in prepared.recipes.items():
        if not recipe.foreign:
            continue
        from schedcmp.engine.trials import repeats

        if not repeats(recipe, max(prepared.steps_of(label))):
            yield f"{label}: draws random numbers that no seed governs, so that no image of it can be made again"
