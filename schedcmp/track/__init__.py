"""A run's results in the place where people keep those of their experiments: MLflow, W&B, TensorBoard."""
