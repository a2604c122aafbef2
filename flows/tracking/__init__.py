"""Figures of a run in an experiment tracker: MLflow, Weights & Biases, Trackio, TensorBoard."""
