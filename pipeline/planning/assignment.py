"""Assigns fragments to workers: pure arithmetic on sizes and capabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shares = Mapping[str, tuple[int, ...]]  # worker (address) -> its fragments, as indices into the sizes, ascending


@dataclass(frozen=True)
class AssignableWorker:
    """A worker that may get fragments."""

    address: str
    name: str
    capability: float


def assign(
    sizes: Sequence[int], capabilities: Sequence[float], loads: Sequence[int] = ()
) -> tuple[tuple[int, ...], ...]:
    """Returns the fragments of each worker, as indices into `sizes`, ascending.

    The largest fragment first, each to the worker that would then be done first; equals go to the earlier worker.
    A worker may get none: it then takes no part in the training.  `loads`: the load that each has already.

    >>> assign([4, 3, 2, 1], [1.0, 1.0])
    ((0, 3), (1, 2))
    >>> assign([1, 1, 1], [2.0, 1.0])
    ((0, 1), (2,))
    >>> assign([2, 2], [1.0, 1.0], loads=[5, 0])
    ((), (0, 1))
    """
    if not capabilities or min(capabilities) <= 0:
        raise ValueError(f"capabilities have to be positive: {list(capabilities)}")
    loads = list(loads) or [0] * len(capabilities)
    shares: list[list[int]] = [[] for _ in capabilities]
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        ends = [(load + sizes[index]) / capability for load, capability in zip(loads, capabilities, strict=True)]
        worker = ends.index(min(ends))
        loads[worker] += sizes[index]
        shares[worker].append(index)
    return tuple(tuple(sorted(share)) for share in shares)


def reassign(
    shares: Shares, names: Mapping[str, str], sizes: Sequence[int], workers: Sequence[AssignableWorker]
) -> dict[str, tuple[int, ...]]:
    """Returns shares for the workers that are present now, with as few changes as possible.

    A worker that is still present keeps its share.  A share without a worker goes, whole, to a worker without a share:
    to the one of the same name (a restarted worker has another address), else to any.  The rest is assigned one
    fragment at a time, and adds to the shares of its workers.  `names`: by address, of all workers ever seen.

    >>> back, other = AssignableWorker("b2", "b", 1.0), AssignableWorker("a", "a", 1.0)
    >>> reassign({"a": (0, 2), "b": (1, 3)}, {"a": "a", "b": "b"}, [1, 1, 1, 1], [other, back])
    {'a': (0, 2), 'b2': (1, 3)}
    >>> reassign({"a": (0, 2), "b": (1, 3)}, {"a": "a", "b": "b"}, [1, 1, 1, 1], [other])
    {'a': (0, 1, 2, 3)}
    """
    present = {worker.address for worker in workers}
    kept = {address: share for address, share in shares.items() if address in present}
    orphans = {address: share for address, share in shares.items() if address not in present}
    free = [worker for worker in workers if worker.address not in kept]
    for address in list(orphans):
        heir = next((worker for worker in free if worker.name == names.get(address)), None)
        if heir is not None:
            kept[heir.address] = orphans.pop(address)
            free.remove(heir)
    for address in list(orphans):
        if free:
            kept[free.pop(0).address] = orphans.pop(address)
    left = sorted(place for share in orphans.values() for place in share)
    if left:
        kept = _deal(kept, left, sizes, workers)
    return kept


def _deal(
    shares: Shares, places: Sequence[int], sizes: Sequence[int], workers: Sequence[AssignableWorker]
) -> dict[str, tuple[int, ...]]:
    """Returns the shares with these fragments added, assigned over all workers."""
    loads = [sum(sizes[place] for place in shares.get(worker.address, ())) for worker in workers]
    dealt = assign([sizes[place] for place in places], [worker.capability for worker in workers], loads)
    grown = dict(shares)
    for worker, share in zip(workers, dealt, strict=True):
        more = tuple(places[index] for index in share)
        if more:
            grown[worker.address] = tuple(sorted((*grown.get(worker.address, ()), *more)))
    return grown


def with_training_rows(shares: Shares, train_rows: Mapping[int, int]) -> dict[str, tuple[int, ...]]:
    """Returns the shares of the workers that have training rows, in the order of their first fragments.

    A worker without training rows cannot take part: its fragments go to the first that has some.  Sums follow the order
    of the ranks, and addresses hold random ports: hence the order by fragments.
    """
    ordered = sorted(((share, address) for address, share in shares.items() if share), key=lambda item: item[0][0])
    able = [address for share, address in ordered if sum(train_rows[place] for place in share) > 0]
    if not able:
        return {}
    mine: dict[str, list[int]] = {address: [] for address in able}
    for share, address in ordered:
        mine.get(address, mine[able[0]]).extend(share)
    return {address: tuple(sorted(places)) for address, places in mine.items()}


def changed_shares(shares: Shares, built: Shares) -> list[str]:
    """Returns the workers whose share differs from the one that their matrix was built of."""
    return [address for address, share in shares.items() if built.get(address) != share]
