"""Model files and facts about a model: checkpoints, chat templates, likelihoods, costs."""
