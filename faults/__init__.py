"""Injects faults into trainings: what can happen, how each run must end, and the means to make it happen.

table      every fault with its required outcome, by kind of cluster
script     what a fault is made of: traps on workers, acts of the client; data only
traps      faults inside a worker: kill, freeze, fill its memory or set its clock, at a stage or round
runner     runs the installed command, writes its events to a pipe and does acts on them
places     the kinds of cluster
runs       one run of the command: started, watched, ended
trial      one fault played on one cluster, from the run to the verdict
leftovers  processes and files that outlived a run
"""
