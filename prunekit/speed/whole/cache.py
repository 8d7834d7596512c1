"""What a card's memory holds beside the weights, and what becomes of sequences whose KV cache does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..devices import Gpu
from .model import Model
from .step import SERVER, Server

BLOCK = 16  # tokens for which a server reserves cache at a time


@dataclass(frozen=True)
class Memory:
    """Bytes on a card: what a server may take, the weights in it, what else it needs, and what the KV cache gets.

    `tokens` is how many the cache holds, none where not even the weights fit.
    """

    server: float
    weights: float
    working: float
    tokens: int

    @property
    def cache(self) -> float:
        """Bytes for keys and values."""
        return max(0.0, self.server - self.weights - self.working)

    def holds(self, length: int) -> int:
        """How many sequences of `length` tokens the cache holds at once."""
        return self.tokens // (-(-length // BLOCK) * BLOCK)


def memory(
    gpu: Gpu, dtype: str, model: Model, sparse24: bool, batched: int | None = None, server: Server = SERVER
) -> Memory:
    """What of a card's memory goes where.

    Args:
        gpu: a card of `prunekit.speed.devices`.
        dtype: "fp8", "bf16" or "fp16"; keys and values are kept in 16 bits.
        model: the model's sizes.
        sparse24: with 2:4 weights.
        batched: tokens that a step may take; default the server's.
        server: the constants.
    """
    share = gpu.memory_gb * 2**30 * server.memory_share
    weights = model.weight_bytes(dtype, sparse24)
    working = server.reserve + (batched or server.batched_tokens) * model.activation_bytes(dtype)
    tokens = int(max(0.0, share - weights - working) // (model.cache_bytes * BLOCK)) * BLOCK
    return Memory(share, weights, working, tokens)


def decode_us(
    batch: int,
    prompt: int,
    written: int,
    room: int,
    step_us: Callable[[int, float, int], float],
) -> float | None:
    """Microseconds until each of a batch of sequences has its tokens, the prompts' first pass not counted.

    As vLLM does it: all that fit begin; when the cache is full the last one loses its place, waits until there is room,
    and then reads all that it had once more. Sequences of one length are kept together as [length, how many].

    Args:
        batch: sequences.
        prompt: tokens of each at the start.
        written: tokens that each writes, the one that the prompt's pass gives among them.
        room: tokens that the cache holds.
        step_us: microseconds of a step, by sequences, their tokens in the cache, and tokens read once more.

    Returns:
        The time, or None where not even one sequence fits.
    """
    end = prompt + written

    def blocks(length: int) -> int:
        return -(-(length + 1) // BLOCK) * BLOCK

    if blocks(end - 1) > room:
        return None
    waiting, time = [[prompt, batch]], 0.0
    running: list[list[int]] = []
    while waiting or running:
        used = sum(blocks(length) * count for length, count in running)
        full, again = used > room, 0
        while used > room:
            length, _ = running[-1]
            running[-1][1] -= 1
            used -= blocks(length)
            if not running[-1][1]:
                running.pop()
            if waiting and waiting[0][0] == length:
                waiting[0][1] += 1
            else:
                waiting.insert(0, [length, 1])
        while waiting and not full:
            length, count = waiting[0]
            fits = min(count, (room - used) // blocks(length))
            if not fits:
                break
            used += fits * blocks(length)
            running.append([length, fits])
            again += fits * length if length > prompt else 0
            waiting[0][1] -= fits
            if fits < count:
                break
            waiting.pop(0)
        alone = min(end - length for length, _ in running)
        # While there is room for all, every step is like the one before: take them at once.
        calm = 1 if waiting or sum(blocks(end) * count for _, count in running) > room else alone
        sequences = sum(count for _, count in running)
        tokens = sum(length * count for length, count in running)
        time += step_us(sequences, tokens, again)
        if calm > 1:
            time += (calm - 1) * step_us(sequences, tokens + sequences * calm / 2, 0)
        running = [[length + calm, count] for length, count in running if length + calm < end]
    return time
