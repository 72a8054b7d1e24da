"""Other hardware for the denoiser: JAX in place of torch, behind the same pipelines and engines."""
