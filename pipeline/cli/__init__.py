"""The command line: verbs, options, and what people see of a run."""
