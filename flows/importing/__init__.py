"""How other tools write down what a model was asked and answered."""
