"""Which worker gets which fragments: pure arithmetic on sizes and capabilities."""

from collections.abc import Sequence


def assign(sizes: Sequence[int], capabilities: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """The fragments of each worker, as indices into `sizes`, ascending.

    The largest fragment first, each to the worker that would then be done first; equals go to the earlier worker.
    A worker may come out empty: it is then no part of the training.

    >>> assign([4, 3, 2, 1], [1.0, 1.0])
    ((0, 3), (1, 2))
    >>> assign([1, 1, 1], [2.0, 1.0])
    ((0, 1), (2,))
    """
    if not capabilities or min(capabilities) <= 0:
        raise ValueError(f"capabilities have to be positive: {list(capabilities)}")
    loads = [0] * len(capabilities)
    shares: list[list[int]] = [[] for _ in capabilities]
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        ends = [(load + sizes[index]) / capability for load, capability in zip(loads, capabilities, strict=True)]
        worker = ends.index(min(ends))
        loads[worker] += sizes[index]
        shares[worker].append(index)
    return tuple(tuple(sorted(share)) for share in shares)
