"""A sweep against its checkpoint: everything that can be known, and refused, before weights are loaded."""

from schedcmp.prepare.prepared import Prepared, prepare, scheduler_config_of

__all__ = ["Prepared", "prepare", "scheduler_config_of"]
