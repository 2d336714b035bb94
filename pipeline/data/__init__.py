"""Opens sources: files, their fragments, and the rows in them."""
