"""Prune and quantize language models without sorting: EWMA selection and FP8 in one pass.

The steps, in the order in which they are used::

    import prunekit as pk

    model, tokenizer = pk.load("embedded")
    text = pk.corpus(tokenizer, split="train", tokens=2048, context=32)
    result = pk.compress(model, text, sparsity=0.5, fp8="e4m3", compensate=True)
    print(pk.evaluate(result.model, pk.corpus(tokenizer), dense=model))
    pk.save(result, tokenizer, "out/smollm2-half-fp8")

Names are imported when they are first used, so that ``import prunekit`` itself takes no time.
"""

from .lazy import make_lazy

_HOME = {
    "load": "models",
    "corpus": "corpus",
    "documents": "corpus",
    "calibrate": "calibrate",
    "Calibration": "calibrate",
    "allocate": "allocate",
    "Allocation": "allocate",
    "compress": "compress",
    "Compressed": "compress",
    "recover": "recover",
    "linear_layers": "linear",
    "Fp8Linear": "fp8_linear",
    "evaluate": "evaluate",
    "evaluate_all": "evaluate",
    "generate": "evaluate",
    "save": "export",
    "stored_bytes": "export",
    "accelerate": "speed.accelerate",
    "PrunekitError": "errors",
    "contribution": "scores",
    "magnitude": "scores",
    "rank_one": "scores",
    "keep_score": "scores",
    "column_factors": "scores",
    "quantile_mask": "ewma",
    "mean_mask": "ewma",
    "BatchEWMA": "ewma",
    "exact_mask": "patterns",
    "nm_mask": "patterns",
    "sparsity_of": "patterns",
    "encode": "fp8",
    "decode": "fp8",
    "scales": "fp8",
    "cast": "fp8",
    "uncast": "fp8",
    "E4M3": "fp8",
    "E5M2": "fp8",
    "response": "compensate",
    "compensate": "compensate",
    "admm": "admm",
    "permute_channels": "permute",
    "channel_order": "permute",
    "magnitude_mask": "baselines",
    "wanda_mask": "baselines",
    "sparsegpt": "baselines",
    "remove_neurons": "neurons",
}

__version__ = "0.1.0"
__all__ = sorted(_HOME)

make_lazy(__name__, _HOME)
