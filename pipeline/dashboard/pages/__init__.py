"""Holds the pages of the dashboard, one module each; `registry` lists them."""
