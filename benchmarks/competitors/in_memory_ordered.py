"""Reads everything into memory as `in_memory` does, and sorts the rows as this project does."""

from benchmarks.competitors.in_memory import main

if __name__ == "__main__":
    main(ordered=True)
