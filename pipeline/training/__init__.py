"""How rounds are run: who has which rows, checkpoints, and what is done when workers come and go."""
