"""How far the prediction for whole models is off: medians against the published FP8 throughputs, by what binds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from statistics import mean, median

from ..devices import find_gpu
from .model import find_model
from .published import Setting, published_settings
from .step import HOSTS, SERVER, Server
from .throughput import Run, predict_model

FITTED_ON = "RTX4090"
CACHE = "KV cache"
FITTED = (
    "element_share",
    "attention_share",
    "cache_share",
    "sampling_bytes",
    "host_prefill",
    "host_decode",
    "host_sequence",
    "reserve",
)


@dataclass(frozen=True)
class Comparison:
    """Signed relative errors of one published setting, prediction over measurement; None where nothing was measured.

    `dense_bound` and `sparse24_bound` say what is predicted to bind: "host", "arithmetic or memory" or "KV cache".
    """

    setting: Setting
    dense: float | None
    sparse24: float | None
    gain: float | None
    dense_bound: str
    sparse24_bound: str

    @property
    def bound(self) -> str:
        """What binds the pair: the cache or the host where one of the two waits for it."""
        both = (self.dense_bound, self.sparse24_bound)
        return next((kind for kind in (CACHE, "host") if kind in both), self.dense_bound)


@dataclass(frozen=True)
class Regime:
    """Median absolute relative errors on one card where one thing binds: of tokens per second, and of the gain."""

    gpu: str
    bound: str
    figures: int
    tokens_per_s: float
    gain: float | None


def compare(setting: Setting, server: Server = SERVER, host: float | None = None) -> Comparison:
    """A published setting beside its prediction.

    Args:
        setting: one in FP8.
        server: the constants.
        host: microseconds that the host takes for a block; default that of the machine.
    """
    prompt, batch, written = setting.task
    prefill = setting.phase == "prefill"
    answer = predict_model(
        *(setting.gpu, setting.dtype, find_model(setting.model)),
        prompt=prompt,
        batch=batch,
        written=written,
        step_tokens=setting.M if prefill else None,
        host=host,
        server=server,
    )
    assert answer.sparse24 is not None  # the published cards have 2:4

    def rate(run: Run) -> float | None:
        if prefill:  # a step's time does not depend on whether there was memory for it
            return setting.M / run.prefill.us * 1e6
        return batch * (prompt + written) / run.seconds if run.seconds else None

    def bound(run: Run) -> str:
        if prefill:
            return run.prefill.bound
        return CACHE if run.fits < batch else run.decode.bound

    pairs = [(answer.dense, setting.dense), (answer.sparse24, setting.sparse24)]
    ratios = [found / told if told and (found := rate(run)) else None for run, told in pairs]
    dense, sparse24 = ratios
    return Comparison(
        setting,
        dense=dense - 1 if dense else None,
        sparse24=sparse24 - 1 if sparse24 else None,
        gain=sparse24 / dense - 1 if dense and sparse24 else None,
        dense_bound=bound(answer.dense),
        sparse24_bound=bound(answer.sparse24),
    )


def comparisons(gpu: str, server: Server = SERVER, host: float | None = None) -> list[Comparison]:
    """`compare` for every FP8 setting of one card.

    Args:
        gpu: "RTX4090" or "RTX5080".
        server: the constants.
        host: as `compare` takes it.

    Raises:
        PrunekitError: unknown card.
    """
    return [compare(setting, server, host) for setting in published_settings(gpu, "fp8")]


@cache
def regimes(gpu: str, server: Server = SERVER, host: float | None = None) -> list[Regime]:
    """Medians over one card's FP8 settings, apart for the host, arithmetic or memory, and the KV cache.

    Args:
        gpu: "RTX4090" or "RTX5080".
        server: the constants.
        host: as `compare` takes it.

    Raises:
        PrunekitError: unknown card.
    """
    rows = comparisons(gpu, server, host)
    return [found for kind in ("host", "arithmetic or memory", CACHE) if (found := _regime(gpu, kind, rows))]


def _regime(gpu: str, kind: str, rows: Iterable[Comparison]) -> Regime | None:
    rows = list(rows)
    found = [
        abs(error)
        for row in rows
        for error, bound in ((row.dense, row.dense_bound), (row.sparse24, row.sparse24_bound))
        if bound == kind and error is not None
    ]
    gains = [abs(row.gain) for row in rows if row.bound == kind and row.gain is not None]
    return Regime(gpu, kind, len(found), median(found), median(gains) if gains else None) if found else None


def loss(gpu: str, server: Server = SERVER, host: float | None = None) -> float:
    """What `fit` makes small: mean errors, each cut off at 30 %, and a share of the medians that `regimes` gives.

    Args:
        gpu: "RTX4090" or "RTX5080".
        server: the constants.
        host: as `compare` takes it.
    """
    rows = comparisons(gpu, server, host)
    errors = [e for row in rows for e in (row.dense, row.sparse24, None if row.bound == "host" else row.gain)]
    medians = sum(r.tokens_per_s + (r.gain or 0.0) * (r.bound != "host") for r in regimes(gpu, server, host))
    return mean(min(abs(e), 0.3) for e in errors if e is not None) + 0.3 * medians


def fit(gpu: str, server: Server = SERVER, rounds: int = 5) -> Server:
    """Constants fitted to one card's FP8 settings: one at a time, up and down by a shrinking step, for some rounds.

    Args:
        gpu: "RTX4090" or "RTX5080"; the host's figure of its machine stays.
        server: where the fit begins.
        rounds: how often every constant of `FITTED` is tried.
    """
    best, step = loss(gpu, server), 0.2
    for _ in range(rounds):
        for name in FITTED:
            for factor in (1 + step, 1 / (1 + step)):
                trial = replace(server, **{name: getattr(server, name) * factor})
                if (new := loss(gpu, trial)) < best:
                    server, best = trial, new
        step /= 1.6
    return server


def fit_host(gpu: str, server: Server = SERVER) -> float:
    """The host's figure of one machine, microseconds a block to the nearest 10, with all other constants given.

    Args:
        gpu: "RTX4090" or "RTX5080".
        server: the constants.
    """
    return min((10.0 * n for n in range(10, 201)), key=lambda host: loss(gpu, server, host))


def format_regimes(cards: Iterable[str] = ("RTX4090", "RTX5080"), server: Server = SERVER) -> str:
    """The medians as text, with each machine's host figure and what was fitted.

    Args:
        cards: as `regimes` takes them.
        server: the constants.
    """
    lines = ["gpu      bound by              figures  tokens/s  gain"]
    for gpu in cards:
        for r in regimes(gpu, server):
            gain = f"{r.gain:5.1%}" if r.gain is not None else "    -"
            lines.append(f"{gpu:8} {r.bound:20}  {r.figures:7}  {r.tokens_per_s:8.1%}  {gain}")
        use = "fitted on this card" if gpu == FITTED_ON else "only the host's figure fitted on this card"
        lines.append(f"{gpu:8} host: {HOSTS[find_gpu(gpu).name]:.0f} us a block; {use}")
    return "\n".join(lines)
