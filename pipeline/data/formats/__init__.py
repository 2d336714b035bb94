"""Reads the file formats: what a file's metadata contain, and its rows."""
