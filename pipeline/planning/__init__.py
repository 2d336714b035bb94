"""What a run will need, and which worker gets which fragments, worked out before it starts."""
