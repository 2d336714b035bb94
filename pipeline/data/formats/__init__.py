"""The file formats: what a file says about itself, and its rows."""
