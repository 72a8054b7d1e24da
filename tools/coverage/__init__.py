"""Measures every text-to-image pipeline class of diffusers on tiny checkpoints with random weights."""
