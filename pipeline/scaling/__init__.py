"""The experiment `pipeline scale`: measured, predicted and explained."""
