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

from .system.lazy import make_lazy

_HOME = {
    "load": "storage.load",
    "corpus": "calibration.corpus",
    "documents": "calibration.corpus",
    "calibrate": "calibration.calibrate",
    "Calibration": "calibration.calibrate",
    "allocate": "compression.allocate",
    "Allocation": "compression.allocate",
    "compress": "compression.compress",
    "Compressed": "compression.result",
    "compress_folder": "storage.streamed.folder",
    "Recipe": "compression.recipe",
    "recover": "recovery.recover",
    "BlockTraining": "recovery.blocks",
    "linear_layers": "model.linear",
    "Fp8Linear": "model.fp8_linear",
    "evaluate": "evaluation.evaluate",
    "evaluate_all": "evaluation.evaluate",
    "generate": "evaluation.generate",
    "run_tasks": "evaluation.tasks.run",
    "compare_tasks": "evaluation.tasks.compare",
    "save": "storage.save",
    "verify": "storage.streamed.verify",
    "evaluate_streamed": "evaluation.streamed",
    "open_skeleton": "storage.streamed.skeletons",
    "stored_bytes": "storage.tensors",
    "accelerate": "speed.accelerate",
    "PrunekitError": "errors",
    "contribution": "method.scores",
    "magnitude": "method.scores",
    "rank_one": "method.scores",
    "keep_score": "method.scores",
    "column_factors": "method.scores",
    "quantile_mask": "method.ewma",
    "mean_mask": "method.ewma",
    "BatchEWMA": "method.ewma",
    "exact_mask": "method.masks",
    "nm_mask": "method.masks",
    "sparsity_of": "method.masks",
    "encode": "method.fp8",
    "decode": "method.fp8",
    "scales": "method.fp8",
    "cast": "method.fp8",
    "uncast": "method.fp8",
    "E4M3": "method.fp8",
    "E5M2": "method.fp8",
    "response": "method.compensation",
    "compensate": "method.compensation",
    "admm": "method.admm",
    "permute_channels": "compression.permute",
    "channel_order": "compression.permute",
    "magnitude_mask": "method.baselines",
    "wanda_mask": "method.baselines",
    "sparsegpt": "method.baselines",
    "remove_neurons": "compression.neurons",
}

__version__ = "0.1.0"
__all__ = sorted(_HOME)

make_lazy(__name__, _HOME)
