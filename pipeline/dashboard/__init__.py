"""Training in the Dask dashboard, live and afterwards.

`board` holds what is known of each run and `live` its efficiency now (both plain arithmetic); `training`, `efficiency`
and `workers` are the pages, listed in `pages`; `install` puts them into a scheduler's dashboard, `replay` serves them
for a recorded file.
"""
