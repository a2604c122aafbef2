"""Fine-tuning, and the pretraining of the embedded bases."""
