"""The model folder: written whole, checked before it is read, and what is done with it."""
