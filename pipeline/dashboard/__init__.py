"""Shows trainings in the Dask dashboard, live and afterwards.

`pages` has the pages and their registry, which show the state of `monitoring.state`; `install` adds them to a
scheduler's dashboard, `lazy` loads that at the first visit, `replay` serves them for a recorded file.
"""
