"""What diffusers' source says of its pipelines, read without importing them (which takes a second each)."""
