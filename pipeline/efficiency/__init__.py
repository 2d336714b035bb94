"""How efficient a training is: what E means, the instruments that measure it, the model that predicts it."""
