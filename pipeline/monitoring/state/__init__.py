"""What is known of each run, from its events alone."""
