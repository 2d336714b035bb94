"""Faults for trainings: what can happen, what must come of it, and the means to make it happen.

table      every fault with what must come of it, by kind of cluster
script     what a fault is made of: traps on workers, acts of the client; data only
traps      faults inside a worker: it is killed, frozen, filled or its clock is set, at a stage or round
runner     the installed command, which says its events on a pipe and acts on them
places     the kinds of cluster
runs       one run of the command: started, watched, ended
trial      one fault played on one cluster, from the run to the verdict
leftovers  processes and files that outlived a run
"""
