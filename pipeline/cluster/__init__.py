"""Where it runs: the cluster, its devices and cores, and which worker gets which fragments."""
