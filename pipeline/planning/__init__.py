"""Estimates what a run will need and assigns fragments to workers, before anything starts."""
