"""A sweep on the workers of a Ray cluster: what `executor: ray` means. Nothing imports it unless asked to."""
