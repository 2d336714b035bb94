"""The source: files, their fragments, and the rows in them."""
