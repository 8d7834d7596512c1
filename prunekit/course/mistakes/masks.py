"""What learners do wrong in notebook 02."""

import math

from ..checks.masks import EXERCISES
from ..printing import numbers
from .mistake import gives, right_for

_mask_verify = EXERCISES["2.1"].verify


MASKS = (
    right_for("the highest scores should stay, not the lowest.", _mask_verify, lambda L, n, m: (-L, n, m)),
    right_for("N is the number that stays, and not that which goes.", _mask_verify, lambda L, n, m: (L, m - n, m)),
    right_for(
        "True stands for a weight that stays.",
        lambda args, out: _mask_verify(args, 1 - numbers(out)),
        lambda *args: args,
    ),
    right_for("a score below 0 is lower than 0: no abs.", _mask_verify, lambda L, n, m: (L.abs(), n, m)),
    gives(
        "of equal scores, a threshold keeps all or none: choose by rank instead.",
        lambda L, n, m: (L.unflatten(1, (-1, m)) >= L.unflatten(1, (-1, m)).topk(n).values[..., -1:]).flatten(1),
    ),
)


def _kept(rows: int, columns: int, n: int, m: int, width: int) -> tuple[int, int]:
    """How many are kept, and the bits of a place."""
    return rows * columns * n // m, math.ceil(math.log2(m))


def _bytes_mistake(hint: str, wrong):
    """A mistake told by what is kept, the bits of a place, and the arguments."""
    return gives(hint, lambda *args: wrong(*_kept(*args), *args), rtol=0)


def _by_row(kept: int, bits: int, rows: int, columns: int, n: int, m: int, width: int) -> int:
    return kept * width + rows * math.ceil(kept // rows * bits / 8)


BYTES = (
    _bytes_mistake("the places of the kept weights take room too.", lambda k, b, r, c, n, m, w: k * w),
    _bytes_mistake(
        "bits of places were counted as bytes: 8 bits are a byte.", lambda k, b, r, c, n, m, w: k * w + k * b
    ),
    _bytes_mistake(
        "only kept weights have a place to note, not all.", lambda k, b, r, c, n, m, w: k * w + math.ceil(r * c * b / 8)
    ),
    _bytes_mistake("only n of every m values are stored.", lambda k, b, r, c, n, m, w: r * c * w),
    _bytes_mistake("round up to whole bytes.", lambda k, b, r, c, n, m, w: k * w + k * b / 8),
    _bytes_mistake("round up once, for the places of all rows together.", _by_row),
    _bytes_mistake(
        "round up, not down, or the last bits have no room.", lambda k, b, r, c, n, m, w: k * w + k * b // 8
    ),
    _bytes_mistake("a place needs only ceil(log2(m)) bits, not a byte.", lambda k, b, r, c, n, m, w: k * w + k),
)


MISTAKES = {"2.1": MASKS, "2.3": BYTES}
