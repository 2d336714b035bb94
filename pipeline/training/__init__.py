"""From blocks to a booster: cuts, quantised matrices, rounds under one communicator."""
