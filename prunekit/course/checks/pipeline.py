"""Exercises of notebook 04: the joint keep score, retention, a bug in Wanda, the front, and the whole joint pass."""

from .exercise import Exercise
from .joint import best, judged, whole
from .joint.best import joint_mask
from .joint.judged import front_mask, top1_retention, wanda_mask
from .joint.whole import joint_pass

EXERCISES = {
    "4.1": Exercise(best.joint_inputs, best.verify_joint, ("W", "Wq", "E", "keep"), joint_mask, best.joint_layers),
    "4.2": Exercise(
        judged.retention_inputs,
        judged.verify_retention,
        ("dense", "compressed", "target"),
        top1_retention,
        judged.long_texts,
    ),
    "4.3": Exercise(judged.wanda_inputs, judged.verify_wanda, ("W", "E", "sparsity"), wanda_mask, judged.wanda_layers),
    "4.4": Exercise(judged.front_inputs, judged.verify_front, ("cost", "quality"), front_mask, judged.fronts),
    "4.7": Exercise(whole.inputs, whole.verify, ("W", "X", "grid", "keep"), joint_pass, whole.corners),
}
