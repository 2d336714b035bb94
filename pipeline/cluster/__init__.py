"""Starts or reaches a cluster: its devices and cores, its certificates, and what its processes load."""
