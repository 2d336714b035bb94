"""Writes the documents about a model for people: the report, its pictures, the card."""
