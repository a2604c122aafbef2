"""Planning: tasks and their generators, prompts, policies, the plan checker, fine-tuning."""
