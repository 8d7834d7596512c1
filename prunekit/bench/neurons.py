"""What removing neurons gains on this CPU: dense and smaller model timed in turn, end to end."""

from __future__ import annotations

from functools import partial

import torch

from ..calibration.calibrate import calibrate
from ..calibration.corpus import corpus
from ..calibration.windows import longest_window
from ..compression.neurons import remove_neurons
from ..evaluation.evaluate import evaluate_all
from ..model.linear import weight_of
from ..model.structure import find_mlps
from ..storage.load import load
from ..storage.tensors import stored_bytes
from ..system.machine import machine, versions
from .protocol import print_protocol
from .timing import speedup, time_in_turn

CONTEXT = 256
LABELS = {
    "prompt": f"read a prompt of {CONTEXT} tokens, logits of its last",
    "all_logits": f"{CONTEXT} tokens, logits of each",
    "one_token": "one token, as in generation (no past)",
}


def neurons(share: float = 0.3, model_name: str = "embedded", rounds: int = 15) -> dict:
    """Remove a share of the MLP neurons and time whole forward passes, output embedding included.

    Reading a prompt is what generation begins with: transformers computes only the last token's logits there.
    With logits of every token, as in `evaluate`, the output embedding weighs more, and nothing of it was removed.

    Args:
        share: of the neurons to remove, in ``(0, 1)``; see `neurons.remove_neurons`.
        model_name: as `load.load` takes it.
        rounds: how often each forward is timed, dense and smaller in turn.

    Returns:
        ``speedup`` (reading a prompt: how many times faster, median of the rounds) and ``speedup_all_logits``,
        ``speedup_one_token``, each with its ``..._quartiles``; ``milliseconds`` by forward, dense and smaller;
        ``neurons_dense, neurons, removed``; ``perplexity, top1, bytes`` of both; ``machine`` and ``versions``.

    Raises:
        PrunekitError: the model has no removable neurons, or a bad share.
    """
    model, tokenizer = load(model_name, device="cpu")
    context = longest_window(model)
    ids = corpus(tokenizer, split="train", tokens=4096, context=context)
    smaller = remove_neurons(model, share, calibrate(model, ids, stop=False))
    models = {"dense": model, "smaller": smaller}
    width = {name: weight_of(m.get_submodule(find_mlps(m)[0].after)).shape[1] for name, m in models.items()}
    test = corpus(tokenizer, tokens=8192, context=context)
    window = test[:1, :CONTEXT]
    forwards = {
        "prompt": lambda m: m(window, use_cache=False, logits_to_keep=1),
        "all_logits": lambda m: m(window, use_cache=False),
        "one_token": lambda m: m(window[:, :1], use_cache=False),
    }
    with torch.inference_mode():
        timed = {
            kind: time_in_turn({name: partial(run, m) for name, m in models.items()}, rounds=rounds, warmup=2)
            for kind, run in forwards.items()
        }
    ratios = {kind: speedup(t["dense"], t["smaller"]) for kind, t in timed.items()}
    quality = evaluate_all(models, test)
    size = {name: stored_bytes(m) for name, m in models.items()}
    removed = 1 - width["smaller"] / width["dense"]

    print_protocol(
        model_name,
        f"{next(model.parameters()).dtype}; {width['smaller']} of {width['dense']} neurons stay in each block, "
        f"{removed:.1%} removed ({share:.0%} asked)",
    )
    print(
        f"whole model, batch 1; {rounds} rounds in turn after a warm-up; medians, with quartiles of the rounds' ratios"
    )
    for kind, label in LABELS.items():
        ms = {name: t.median * 1e3 for name, t in timed[kind].items()}
        ratio, low, high = ratios[kind]
        print(
            f"  {label:<46} dense {ms['dense']:8.1f} ms   smaller {ms['smaller']:8.1f} ms   "
            f"{ratio:.2f}x faster [{low:.2f}, {high:.2f}]"
        )
    print(f"calibrated on 4,096 tokens of wikipedia; judged on 8,192 of others, windows of {context}; no retraining")
    for name in models:
        q = quality[name]
        print(f"  {name:<8} perplexity {q['perplexity']:8.2f}   top-1 {q['top1']:.3f}   {size[name] / 1e6:7.1f} MB")
    result = {
        "neurons_dense": width["dense"],
        "neurons": width["smaller"],
        "removed": removed,
        "prompt_tokens": window.shape[1],
        "rounds": rounds,
        "milliseconds": {k: {n: t.median * 1e3 for n, t in timed[k].items()} for k in timed},
        "perplexity": {name: q["perplexity"] for name, q in quality.items()},
        "top1": {name: q["top1"] for name, q in quality.items()},
        "bytes": size,
        "machine": machine(),
        "versions": versions(),
    }
    for kind, (ratio, low, high) in ratios.items():
        key = "speedup" if kind == "prompt" else f"speedup_{kind}"
        result |= {key: ratio, f"{key}_quartiles": [low, high]}
    return result
