"""The order of samples as a pure function of a seed and a position: permutations that are computed, never stored."""

from __future__ import annotations

import hashlib

from modalign.errors import ModalignError

_MASK = (1 << 64) - 1
_ROUNDS = 8


def derive_seed(seed: int, *parts: int | str) -> int:
    """A 64-bit seed from a seed and what it is for; the same on every machine and in every process."""
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _mix(value: int) -> int:
    """The finaliser of splitmix64: every bit of the input moves every bit of the output."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Permutation:
    """A bijection on 0 … n-1 chosen by `seed`; memory and time do not grow with n.

    A Feistel network permutes the next power of two, and walking its cycle until a value below n comes up restricts it
    to 0 … n-1 (fewer than two steps on average).
    """

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise ModalignError(f"a permutation needs at least one item, not {n}")
        self.n = n
        bits = max(2, (n - 1).bit_length())
        self._low_bits = bits - bits // 2
        self._low_mask = (1 << self._low_bits) - 1
        self._high_mask = (1 << (bits // 2)) - 1
        self._keys = tuple(_mix((seed & _MASK) ^ _mix(turn + 1)) for turn in range(_ROUNDS))

    def __call__(self, position: int) -> int:
        """The item at `position`; raises IndexError outside 0 … n-1."""
        if not 0 <= position < self.n:
            raise IndexError(f"position {position} of {self.n}")
        value = self._encrypt(position)
        while value >= self.n:
            value = self._encrypt(value)
        return value

    def _encrypt(self, value: int) -> int:
        # `_mix` eight times, written out: calling it takes as long as reading a sample from memory.
        low_mask, high_mask = self._low_mask, self._high_mask
        low, high = value & low_mask, value >> self._low_bits
        for turn, key in enumerate(self._keys):
            x = (((high if turn % 2 else low) ^ key) + 0x9E3779B97F4A7C15) & _MASK
            x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
            x ^= x >> 31
            if turn % 2:
                low ^= x & low_mask
            else:
                high ^= x & high_mask
        return high << self._low_bits | low


class BlockShuffle:
    """A bijection on 0 … n-1 that shuffles well and yet reads a disk in long runs.

    Blocks of `block` neighbours are put in random order; each `window` of consecutive blocks is then shuffled sample by
    sample. So any stretch of window * block positions touches `window` contiguous runs (twice that across two windows).
    """

    def __init__(self, n: int, seed: int, block: int = 256, window: int = 16) -> None:
        if n < 1 or block < 1 or window < 1:
            raise ModalignError(f"a block shuffle needs n, block and window of at least 1, not {n}, {block}, {window}")
        self.n, self.seed, self.block, self.window = n, seed, block, window
        self._full, self._tail = divmod(n, block)
        self._blocks = Permutation(self._full, derive_seed(seed, "blocks")) if self._full else None
        # The short last block goes to a random place of its own; without one the place is past the end.
        self._tail_place = derive_seed(seed, "tail") % (self._full + 1) if self._tail else self._full
        self._missing = block - self._tail if self._tail else 0
        self._inner: tuple[int, Permutation] | None = None

    def __call__(self, position: int) -> int:
        """The sample at `position`; raises IndexError outside 0 … n-1."""
        if not 0 <= position < self.n:
            raise IndexError(f"position {position} of {self.n}")
        number = self._window_of(position)
        start = self._start(number)
        if self._inner is None or self._inner[0] != number:
            size = self._start(number + 1) - start
            self._inner = (number, Permutation(size, derive_seed(self.seed, "window", number)))
        return self._place(start + self._inner[1](position - start))

    def _start(self, number: int) -> int:
        """The first position of a window, which lies earlier by what the short block lacks once that is behind it."""
        start = number * self.window * self.block
        return min(self.n, start - self._missing if number > self._tail_place // self.window else start)

    def _window_of(self, position: int) -> int:
        span = self.window * self.block
        number = position // span
        return number if position < self._start(number + 1) else number + 1

    def _place(self, position: int) -> int:
        """The sample at a position when blocks are shuffled and samples inside them are not."""
        before = self._tail_place * self.block
        if self._tail and before <= position < before + self._tail:
            return self._full * self.block + position - before
        if position >= before:
            position -= self._tail
        place, offset = divmod(position, self.block)
        assert self._blocks is not None
        return self._blocks(place) * self.block + offset


class Stream:
    """The samples of one source for ever: position p is sample `index` of pass `epoch`, each pass in its own order.

    `shuffle=False` keeps the order on disk (evaluation).
    """

    def __init__(self, n: int, seed: int, block: int = 256, window: int = 16, shuffle: bool = True) -> None:
        if n < 1:
            raise ModalignError("a source without samples has no order: its split is empty")
        self.n, self.seed, self.block, self.window, self.shuffle = n, seed, block, window, shuffle
        self._orders: dict[int, BlockShuffle] = {}

    def __call__(self, position: int) -> tuple[int, int]:
        """(epoch, index) at `position` >= 0."""
        if position < 0:
            raise IndexError(f"position {position} is negative")
        epoch, place = divmod(position, self.n)
        return (epoch, self._order(epoch)(place)) if self.shuffle else (epoch, place)

    def _order(self, epoch: int) -> BlockShuffle:
        if epoch not in self._orders:
            # Slices straddle the end of a pass, so two are kept.
            self._orders = {old: order for old, order in self._orders.items() if old == epoch - 1}
            self._orders[epoch] = BlockShuffle(self.n, derive_seed(self.seed, "epoch", epoch), self.block, self.window)
        return self._orders[epoch]
