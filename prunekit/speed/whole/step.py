"""One step of a server, term by term: some tokens of some sequences through all blocks, on one card.

    prefill: max(GPU, host)    decode: GPU + host
    GPU = linear layers + casts + norms, rotation, activation + attention + output embedding + sampling

The linear layers are `latency.predict`'s, fused as servers run them, with weights that come from memory. 2:4 speeds
up these alone, so that what else a step does is what a kernel's gain is lost in. In prefill the host launches kernel
after kernel while the GPU works, and whoever is slower decides; in decode a whole step is one launch (CUDA graphs),
but its tokens must be there before the host can begin the next.

Constants called *fitted* were fitted to the FP8 throughputs published for the RTX 4090 and tested on the RTX 5080's
(`accuracy`); only the time of the host is each machine's own. What is left unexplained: BitNet-2B is published 5 to
25 % faster than predicted, in both phases and on both cards; with 2:4 the 4090's host takes 10 to 15 % longer for
Llama3.2-1B than without; and when hundreds of sequences of Qwen2.5-14B crowd a cache for some thirty (RTX 4090, 512
prompts, dense), the server loses nearly twice the time that reading them again explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..devices import Gpu
from ..latency import predict
from .model import Model


@dataclass(frozen=True)
class Server:
    """Everything in a step that is neither a shape nor a data-sheet figure."""

    # Fitted: share of the data-sheet bandwidth that norms, rotation, activation and casts get. It is low since a server
    # makes more passes over its data than are counted here.
    element_share: float = 0.41
    # Fitted: shares of the card's 16-bit rate (prompt) and of its bandwidth (one token) that attention gets.
    attention_share: float = 0.9
    cache_share: float = 0.4
    # Fitted: bytes that move for each entry of the vocabulary when a token is drawn: some twenty passes in FP32.
    sampling_bytes: float = 110.0
    # A kernel of a CUDA graph takes at least so long, microseconds.
    kernel_us: float = 2.0
    # Fitted: a prefill step costs the host as much as so many blocks more, a decode step so many in all, and each of
    # its sequences so many.
    host_prefill: float = 23.0
    host_decode: float = 1.9
    host_sequence: float = 0.0052
    # Of the card's memory a server takes this share (the published script's default); of that go the weights, what
    # `batched_tokens` tokens need on their way (vLLM's default), and fitted, CUDA's and the libraries' own, bytes.
    memory_share: float = 0.8
    batched_tokens: int = 8192
    reserve: float = 0.61e9


SERVER = Server()
# Microseconds that the host takes for a block: one figure for each machine that was published.
HOSTS = {"RTX 4090": 1420.0, "RTX 5080": 350.0}


@dataclass(frozen=True)
class Step:
    """The terms of a step in microseconds.

    `host_us` runs beside the GPU in prefill and after it in decode; `tokens` go through the blocks at once.
    """

    linear_us: float
    cast_us: float
    element_us: float
    attention_us: float
    output_us: float
    sampling_us: float
    host_us: float
    decode: bool
    tokens: int

    @property
    def gpu_us(self) -> float:
        """What the GPU is busy with."""
        gpu = self.linear_us + self.cast_us + self.element_us
        return gpu + self.attention_us + self.output_us + self.sampling_us

    @property
    def us(self) -> float:
        """How long the step takes."""
        return self.gpu_us + self.host_us if self.decode else max(self.gpu_us, self.host_us)

    @property
    def bound(self) -> str:
        """What takes most of it: "host", or "arithmetic or memory"."""
        return "host" if self.host_us > self.gpu_us else "arithmetic or memory"


def host_of(gpu: Gpu) -> float:
    """Microseconds a block of the machine published with this card, or of the faster one.

    Args:
        gpu: a card of `prunekit.speed.devices`.
    """
    return HOSTS.get(gpu.name, min(HOSTS.values()))


def step(
    gpu: Gpu,
    dtype: str,
    model: Model,
    *,
    tokens: int,
    sequences: int,
    seen: float,
    decode: bool,
    sparse24: bool = False,
    host: float | None = None,
    server: Server = SERVER,
) -> Step | None:
    """A step's terms; None where no kernel multiplies a 2:4 weight in this format on this card.

    Args:
        gpu: a card of `prunekit.speed.devices`.
        dtype: "fp8", "bf16" or "fp16"; where the card has no FP8 tensor cores a weight-only kernel.
        model: the model's sizes.
        tokens: that go through the blocks.
        sequences: that they belong to, each with one token written.
        seen: tokens that each token attends to, on average.
        decode: one token a sequence, as one CUDA graph.
        sparse24: linear layers with 2:4 weights.
        host: microseconds that the host takes for a block; default `host_of`.
        server: the constants.
    """
    linear = linear_us(gpu, dtype, model, tokens, sparse24)
    if linear is None:
        return None
    blocks, hidden, inner, queries, keys = model.blocks, model.hidden, model.inner, model.queries, model.keys
    bandwidth = gpu.bandwidth_gbs * 1e3
    host = host_of(gpu) if host is None else host

    def passes(*bytes_a_token: int) -> float:
        share = bandwidth * server.element_share
        return blocks * sum(max(server.kernel_us, tokens * b / share) for b in bytes_a_token)

    # A cast reads 16 bits and writes 8: before query, output, gate and down.
    casts = passes(3 * hidden, 3 * queries, 3 * hidden, 3 * inner) if dtype == "fp8" and gpu.fp8 else 0.0
    # Two norms read and write the layer's output and the residual stream; rotation; the product of gate and up.
    elements = passes(8 * hidden, 8 * hidden, 4 * (queries + keys), 6 * inner)
    cache = tokens * model.cache_bytes / bandwidth
    if decode:
        attention = blocks * server.kernel_us + cache * seen / server.cache_share
    else:
        rate = (gpu.bf16 or gpu.fp16) * 1e6 * server.attention_share
        attention = blocks * 4 * tokens * seen * queries / rate + cache
    wide = "bf16" if gpu.bf16 else "fp16"
    return Step(
        linear,
        casts,
        elements,
        attention,
        output_us=product_us(gpu, wide, sequences, model.vocabulary, model.hidden, False) or 0.0,
        sampling_us=sequences * model.vocabulary * server.sampling_bytes / bandwidth,
        host_us=host * (server.host_decode + server.host_sequence * sequences)
        if decode
        else host * (blocks + server.host_prefill),
        decode=decode,
        tokens=tokens,
    )


def linear_us(gpu: Gpu, dtype: str, model: Model, tokens: int, sparse24: bool) -> float | None:
    """Microseconds of all linear layers of the blocks; None where no kernel multiplies a 2:4 weight.

    Args:
        gpu: a card of `prunekit.speed.devices`.
        dtype: "fp8", "bf16" or "fp16".
        model: the model's sizes.
        tokens: at once.
        sparse24: with 2:4 weights.
    """
    times = [product_us(gpu, dtype, tokens, layer.N, layer.K, sparse24) for layer in model.layers]
    return None if None in times else model.blocks * sum(us for us in times if us is not None)


@lru_cache(maxsize=65536)
def product_us(gpu: Gpu, dtype: str, M: int, N: int, K: int, sparse24: bool) -> float | None:
    """Microseconds of one product, its weight from memory; None where no kernel multiplies a 2:4 weight.

    Args:
        gpu: a card of `prunekit.speed.devices`.
        dtype: "fp8", "bf16" or "fp16".
        M: tokens.
        N: outputs.
        K: inputs.
        sparse24: with a 2:4 weight.
    """
    p = predict(gpu, dtype, M, N, K, cold=True, weight_only=dtype == "fp8" and gpu.fp8 is None)
    return p.sparse24_us if sparse24 else p.dense_us
