"""schedcmp: one diffusion checkpoint, many schedulers, one honest comparison."""

__version__ = "0.1.0"
