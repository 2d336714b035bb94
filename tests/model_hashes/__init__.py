"""SHA-256 of what a training writes, for twelve named cases: a change of any byte is noticed, and has to be explained."""
