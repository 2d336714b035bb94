"""How efficient a training is: what E means, how it is measured, how it is predicted."""
