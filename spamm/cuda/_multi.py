"""One product on several GPUs: C's blocks split by kept products, each GPU with its own stream.

The operands are on one of them, the home. B's rows go from there to the others along a tree, so
that GPUs which have them pass them on, each only the rows that it or those behind it use; A's rows
and C's go straight from and to the home. The host waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from spamm._partition import Piece, partition
from spamm._plan import Plan
from spamm.cuda import _runtime_engine as engine
from spamm.cuda._config import MultiplyConfig
from spamm.cuda._device import Device
from spamm.cuda._interop import View
from spamm.cuda._runtime_lists import lists_of

_SLICES = "_slices"


@dataclass(frozen=True, eq=False)
class Slice:
    """What one device computes.

    Attributes
    ----------
    depth
        The elements of k that it needs, half-open: columns of A, rows of B.
    pieces
        Rectangles of C; their plans begin at the first k-block of `depth`.
    """

    depth: tuple[int, int]
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> tuple[int, int]:
        """The rows of A and of C, half-open."""
        return self.pieces[0].row_slice.start, self.pieces[-1].row_slice.stop


def slices_of(plan: Plan, count: int) -> tuple[Slice, ...]:
    """The plan's slices for so many devices, kept with the plan."""
    made: dict[int, tuple[Slice, ...]] = vars(plan).setdefault(_SLICES, {})
    if count not in made:
        made[count] = tuple(
            _slice(plan, share.pieces, share.rows_of_b) for share in partition(plan, count).shares
        )
    return made[count]


def multiply(
    plan: Plan,
    a: View,
    b: View,
    c: View,
    devices: Sequence[Device],
    configure: Callable[[Device, Plan], MultiplyConfig],
) -> None:
    """Overwrite C with a plan's products of A and B, which lie on one of the devices, as C does.

    Parameters
    ----------
    configure
        The kernel's configuration for a piece's plan on a device.
    """
    home, a, b = a.device, engine.row_major(a), engine.row_major(b)
    shares = dict(zip(devices, slices_of(plan, len(devices)), strict=True))
    working = [each for each in devices if shares[each].pieces]
    away = [each for each in working if each is not home]
    needed = {each: shares[each].depth for each in away}
    held = {home: (b, 0)}
    _spread([home, *(each for each in away if needed[each][0] < needed[each][1])], needed, held)
    arrived: list[tuple[View, Piece]] = []
    # the home's own work comes last: what the others wait for is on its stream before
    for device in (*away, *(each for each in working if each is home)):
        share = shares[device]
        first, last = share.rows
        rows = a.part(slice(first, last), slice(0, a.shape[1]))
        if device is not home and share.depth[0] < share.depth[1]:
            rows = _moved(rows, device)
        for piece in share.pieces:
            across = slice(piece.row_slice.start - first, piece.row_slice.stop - first)
            target = c.part(piece.row_slice, piece.column_slice)
            config = configure(device, piece.plan)
            if device is not home:
                target = engine.new_matrix(device, target.shape, config.out)
                arrived.append((target, piece))
            if share.depth[0] == share.depth[1]:
                engine.fill_zero(target)
                continue
            below, top = held[device]
            depth = slice(share.depth[0] - top, share.depth[1] - top)
            engine.multiply(
                rows.part(across, slice(*share.depth)),
                below.part(depth, piece.column_slice),
                target,
                lists_of(piece.plan, device, engine.tiling_of(config, piece.plan.shape)),
                config,
            )
    for part, piece in arrived:
        _store(part, c.part(piece.row_slice, piece.column_slice))
    for device in away:
        # their memory is given out again only after what was read from it has arrived
        device.wait_for_device(home)


def _slice(plan: Plan, pieces: tuple[Piece, ...], rows_of_b: tuple[int, int]) -> Slice:
    first, last = rows_of_b
    depth = (first * plan.block[1], min(last * plan.block[1], plan.shape[1]))
    shifted = []
    for piece in pieces:
        m, _, n = piece.plan.shape
        inner = replace(
            piece.plan,
            shape=(m, depth[1] - depth[0], n),
            ks=piece.plan.ks - piece.plan.ks.dtype.type(first),
            norms_a=piece.plan.norms_a[:, first:last],
            norms_b=piece.plan.norms_b[first:last],
        )
        shifted.append(replace(piece, plan=inner))
    return Slice(depth, tuple(shifted))


def _spread(
    nodes: Sequence[Device],
    needed: Mapping[Device, tuple[int, int]],
    held: dict[Device, tuple[View, int]],
) -> None:
    """Rows of B from the first of some devices, which holds them, to the others.

    `held` has for a device the rows and the number of the first; halves of the others each get
    theirs from one device, which then passes them on.
    """
    if len(nodes) == 1:
        return
    middle = (len(nodes) + 1) // 2
    others = nodes[middle:]
    first = min(needed[each][0] for each in others)
    last = max(needed[each][1] for each in others)
    rows, top = held[nodes[0]]
    part = rows.part(slice(first - top, last - top), slice(0, rows.shape[1]))
    held[others[0]] = (_moved(part, others[0]), first)
    _spread(nodes[:middle], needed, held)
    _spread(others, needed, held)


def _moved(rows: View, device: Device) -> View:
    """A copy on another device, in one piece, with the columns between rows if there are any."""
    begin, end = rows.extent
    memory = device.allocate(max(1, end - begin))
    if end > begin:
        device.copy(memory.address, rows.device, begin, end - begin)
    return rows._replace(device=device, address=memory.address, owner=memory)


def _store(part: View, target: View) -> None:
    """Copy a contiguous matrix of another device to where it belongs."""
    if 0 in part.shape:
        return
    home, nbytes = target.device, part.span.nbytes
    whole = target.is_row_major and target.leading == target.shape[1]
    if target.dtype == part.dtype and whole:
        home.copy(target.address, part.device, part.address, nbytes)
        return
    landed = engine.new_matrix(home, part.shape, part.dtype)
    home.copy(landed.address, part.device, part.address, nbytes)
    engine.copy(landed, target)
