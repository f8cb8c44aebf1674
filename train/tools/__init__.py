"""Commands beside the training."""
