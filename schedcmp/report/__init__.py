"""Reports, from the store alone: what a run's folder shows can always be made again, without the model."""
