"""Builders of tiny checkpoints, one for each pipeline class, in tables by kind."""

from __future__ import annotations

from tools.coverage.families.diffusion_transformers import FLOW
from tools.coverage.families.kandinsky import KANDINSKY
from tools.coverage.families.language_models import LANGUAGE
from tools.coverage.families.recent import RECENT
from tools.coverage.families.unets import UNETS
from tools.coverage.families.videos import VIDEOS
from tools.coverage.family import Family

FAMILIES: dict[str, Family] = {**UNETS, **FLOW, **LANGUAGE, **RECENT, **KANDINSKY, **VIDEOS}
