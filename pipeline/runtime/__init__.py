"""One run on a cluster: its context, its workers, questions to them, and where its time goes."""
