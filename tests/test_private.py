"""What other libraries keep to themselves: it is there in the releases that are installed, and named in one module."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from schedcmp.errors import RunError
from schedcmp.guard import private

PACKAGE = Path(private.__file__).parents[1]
SCHEDULER = diffusers.DPMSolverMultistepScheduler


def test_private_names_are_in_one_module() -> None:
    """But for those that a class has from one of diffusers', on itself."""
    names = {*re.findall(r"(?:\"|\.)(_[a-z]\w+)", Path(private.__file__).read_text(encoding="utf-8"))} - {"_kept"}
    assert {"_execution_device", "_convert_to_karras", "_compatibles", "_pytree", "_version"} <= names
    naming = re.compile(rf"(?<!self)\.({'|'.join(names)})\b")
    for path in PACKAGE.rglob("*.py"):
        if path != Path(private.__file__):
            assert not naming.search(path.read_text(encoding="utf-8")), path


def test_they_are_in_the_installed_releases() -> None:
    pipeline = diffusers.StableDiffusionPipeline
    for owner, names in (
        (pipeline, ("_execution_device", "_lora_loadable_modules")),
        (SCHEDULER, ("_convert_to_karras", "_init_step_index", "_compatibles")),
        (diffusers.UNet2DConditionModel, ("_repeated_blocks",)),
        (FluxAttnProcessor, ("_attention_backend",)),
        (torch.mps, ("_get_default_mps_generator",)),
    ):
        assert [name for name in names if not hasattr(owner, name)] == [], owner
    assert private.compatible_names(SCHEDULER)
    assert private.knows_its_step(SCHEDULER)
    assert private.single_file_config({"cond_stage_model.transformer.x": (1,)})
    before = torch._dynamo.config.recompile_limit
    private.allow_recompiling(1)
    assert torch._dynamo.config.recompile_limit == before


def test_what_was_renamed_is_told_with_the_release_that_had_it() -> None:
    told = rf"diffusers {re.escape(version('diffusers'))} has no SimpleNamespace._convert_to_karras.*diffusers==0.42.1"
    with pytest.raises(RunError, match=told):
        private.answer_with_levels(SimpleNamespace(), len)


@pytest.mark.skipif(find_spec("ray") is None, reason="without Ray")
def test_rays_private_switch_is_there() -> None:
    """In a process of its own: who imports Ray keeps the token that the environment has then."""
    code = (
        "import ray; from schedcmp.guard import private; private.silence_obituaries(ray);"
        " assert ray._private.worker._worker_logs_enabled is False"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
