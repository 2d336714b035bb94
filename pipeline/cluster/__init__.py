"""How to get a client: a cluster, its devices and cores, its certificates, and what its processes load."""
