"""Model files and what is known of a model: checkpoints, chat templates, likelihoods, costs."""
