"""A sweep against its checkpoint: everything that can be known, and refused, before weights are loaded."""

from schedcmp.prepare.prepared import Prepared
from schedcmp.prepare.preparing import prepare_sweep, scheduler_config_of

__all__ = ["Prepared", "prepare_sweep", "scheduler_config_of"]
