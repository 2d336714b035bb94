"""Finds the files of a source and reads their bytes: storage, retries, links, changes."""
