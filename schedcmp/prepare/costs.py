"""How often a denoiser is called at each timestep of a cell: with guidance, for some pipelines, more than once."""

from __future__ import annotations

from functools import cache
from itertools import islice, product

from schedcmp.axes import arguments
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.pipelines.evaluations import evaluations
from schedcmp.pipelines.guidance import default_guidance, guidance_arguments
from schedcmp.records import Cell
from schedcmp.sweep.document import Sweep

_MOST_CALLS = 1_000  # combinations of further arguments that are asked for their evaluations beforehand


class Costs:
    """Of one checkpoint; each question is answered once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._each = cache(self._asked)

    def of(self, cell: Cell) -> int:
        """Evaluations at each of its timesteps."""
        return self._each(cell.guidance_scale, cell.negative_prompt, cell.call)

    def most(self, sweep: Sweep) -> int:
        """The same, of the sweep's cells that have most."""
        checkpoint = self._checkpoint
        scales = sweep.guidance_scale or (default_guidance(checkpoint.pipeline_class, checkpoint.config),)
        axes = product(scales, sweep.negative_prompt, islice(sweep.calls, _MOST_CALLS))
        return max(self._each(*values) for values in axes)

    def _asked(self, guidance: float, negative: str, call: str) -> int:
        pipeline, configs = self._checkpoint.pipeline_class, self._checkpoint.config
        more = arguments(call)
        given = guidance_arguments(pipeline, configs, guidance, negative, more)
        return evaluations(pipeline, configs, given | more)
