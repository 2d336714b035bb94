"""What the first pass learns of the columns: statistics that can be merged."""
