"""The context of one run on a cluster: its workers, RPCs to them, and the account of its time."""
