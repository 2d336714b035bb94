"""The pages of the dashboard, each a module; `registry` lists them."""
