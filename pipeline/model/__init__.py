"""The model folder: written whole, checked before it is read, and predictions in one process."""
