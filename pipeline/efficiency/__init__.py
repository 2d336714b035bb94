"""Measures and predicts how efficient a training is: the definition of E, the instruments, the analytic model."""
