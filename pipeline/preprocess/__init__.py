"""Turns columns into features: mergeable statistics, a recipe in plain JSON, and the functions that apply it."""
