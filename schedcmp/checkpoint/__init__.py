"""Where a run's weights come from: find a checkpoint, check it, load it once.

`inspect` reads configs only and imports no torch; loading lives in `schedcmp.checkpoint.loading`.
"""

from schedcmp.checkpoint.inspection.inspect import inspect
from schedcmp.checkpoint.source import Checkpoint, ModelSpec

__all__ = ["Checkpoint", "ModelSpec", "inspect"]
