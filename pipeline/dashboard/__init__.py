"""Training in the Dask dashboard, live and afterwards.

`pages` has the pages and their registry, which show what `monitoring.state` knows of each run; `install` puts them into a
scheduler's dashboard, `lazy` has that loaded at the first visit, `replay` serves them for a recorded file.
"""
