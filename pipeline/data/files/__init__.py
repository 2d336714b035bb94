"""Which files a source means, and reading their bytes: storage, retries, links, changes."""
