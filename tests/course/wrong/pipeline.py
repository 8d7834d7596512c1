"""Notebook 04: solutions with the mistakes that learners make, and right ones written differently."""

import numpy as np
import torch

# 4.1


def _highest(score, keep):
    order = score.argsort(dim=1, descending=True)
    return torch.zeros(score.shape, dtype=torch.bool).scatter_(1, order[:, :keep], True)


def joint_loops(W, Wq, E, keep):
    mask = [[0] * W.shape[1] for _ in range(W.shape[0])]
    for i in range(W.shape[0]):
        gain = [(float(W[i, j]) ** 2 - float(W[i, j] - Wq[i, j]) ** 2) * float(E[j]) for j in range(W.shape[1])]
        for j in sorted(range(len(gain)), key=lambda j: (-gain[j], -j))[:keep]:
            mask[i][j] = 1
    return mask


def joint_numpy(W, Wq, E, keep):
    W, Wq, E = W.numpy().astype(np.float64), Wq.numpy().astype(np.float64), E.numpy()
    gain = Wq * (2 * W - Wq) * E
    rank = np.argsort(np.argsort(-gain, axis=1, kind="stable"), axis=1)
    return (rank < keep).astype(np.float32)


def joint_topk(W, Wq, E, keep):
    mask = torch.zeros_like(W, dtype=torch.bool)
    for row, score in zip(mask, (W**2 - (W - Wq) ** 2) * E):
        row[score.topk(keep).indices] = True
    return mask


def joint_contribution(W, Wq, E, keep):
    return _highest(W**2 * E, keep)


def joint_of_the_cast(W, Wq, E, keep):
    return _highest(Wq**2 * E, keep)


def joint_without_energy(W, Wq, E, keep):
    return _highest(W**2 - (W - Wq) ** 2, keep)


def joint_without_squares(W, Wq, E, keep):
    return _highest((W.abs() - (W - Wq).abs()) * E, keep)


def joint_plus(W, Wq, E, keep):
    return _highest((W**2 + (W - Wq) ** 2) * E, keep)


def joint_error_alone(W, Wq, E, keep):
    return _highest(-((W - Wq) ** 2) * E, keep)


def joint_whole_matrix(W, Wq, E, keep):
    score = (W**2 - (W - Wq) ** 2) * E
    return _highest(score.reshape(1, -1), keep * len(W)).reshape(W.shape)


def joint_threshold(W, Wq, E, keep):
    score = (W**2 - (W - Wq) ** 2) * E
    if keep == 0:
        return torch.zeros_like(W, dtype=torch.bool)
    return score >= score.sort(1, descending=True).values[:, keep - 1 : keep]


def joint_upside_down(W, Wq, E, keep):
    return _highest(-(W**2 - (W - Wq) ** 2) * E, keep)


def joint_pruned(W, Wq, E, keep):
    return ~_highest((W**2 - (W - Wq) ** 2) * E, keep)


def joint_one_too_many(W, Wq, E, keep):
    return _highest((W**2 - (W - Wq) ** 2) * E, keep + 1)


def joint_energy_squared(W, Wq, E, keep):
    return _highest((W**2 - (W - Wq) ** 2) * E**2, keep)


def joint_energy_by_row(W, Wq, E, keep):
    return _highest((W**2 - (W - Wq) ** 2) * E[: len(W), None], keep)


# 4.2


def retention_loop(dense, compressed, target):
    d = c = 0
    for x, y, t in zip(dense.tolist(), compressed.tolist(), target.tolist()):
        d, c = d + (x == t), c + (y == t)
    return c / d if d else float("nan")


def retention_tensor(dense, compressed, target):
    return (compressed == target).float().mean() / (dense == target).float().mean().where(
        (dense == target).any(), torch.tensor(torch.nan)
    )


def retention_numpy(dense, compressed, target):
    d, c, t = (x.numpy() for x in (dense, compressed, target))
    return np.float64((c == t).mean()) / (d == t).mean() if (d == t).any() else np.nan


def retention_agreement(dense, compressed, target):
    return (dense == compressed).float().mean().item()


def retention_accuracy(dense, compressed, target):
    return (compressed == target).float().mean().item()


def retention_of_hits(dense, compressed, target):
    hits = dense == target
    return (compressed[hits] == target[hits]).float().mean().item()


def retention_over_agreement(dense, compressed, target):
    same = (dense == compressed).sum().item()
    return (compressed == target).sum().item() / same if same else float("nan")


def retention_clipped(dense, compressed, target):
    return min(1.0, retention_loop(dense, compressed, target))


def retention_percent(dense, compressed, target):
    return 100 * retention_loop(dense, compressed, target)


def retention_upside_down(dense, compressed, target):
    c = (compressed == target).sum().item()
    return (dense == target).sum().item() / c if c else float("nan")


def retention_difference(dense, compressed, target):
    return 1 - ((dense == target).float().mean() - (compressed == target).float().mean()).item()


def retention_divides_by_zero(dense, compressed, target):
    return (compressed == target).sum().item() / (dense == target).sum().item()


def retention_zero_for_none(dense, compressed, target):
    return (compressed == target).sum().item() / max(1, (dense == target).sum().item())


# 4.3


def _lowest(score, count):
    order = score.argsort(dim=1, stable=True)
    return torch.ones(score.shape, dtype=torch.bool).scatter_(1, order[:, :count], False)


def wanda_loops(W, E, sparsity):
    keep = []
    for row in W.tolist():
        score = [abs(w) * e**0.5 for w, e in zip(row, E.tolist())]
        out = sorted(range(len(row)), key=score.__getitem__)[: int(sparsity * len(row))]
        keep.append([j not in out for j in range(len(row))])
    return keep


def wanda_numpy(W, E, sparsity):
    score = np.abs(W.numpy()) * np.sqrt(E.numpy())
    mask = np.ones(score.shape)
    order = np.argsort(score, axis=1)[:, : int(sparsity * W.shape[1])]
    np.put_along_axis(mask, order, 0, axis=1)
    return mask


def wanda_squares(W, E, sparsity):
    return _lowest(W.double().square() * E, int(sparsity * W.shape[1]))


def wanda_whole_layer(W, E, sparsity):
    score = W.abs() * E.sqrt()
    return _lowest(score.reshape(1, -1), int(sparsity * W.numel())).reshape(W.shape)


def wanda_global_threshold(W, E, sparsity):
    score = W.abs() * E.sqrt()
    return score > score.flatten().sort().values[int(sparsity * score.numel())]


def wanda_row_threshold(W, E, sparsity):
    score = W.abs() * E.sqrt()
    count = int(sparsity * W.shape[1])
    return score > score.sort(1).values[:, count - 1 : count] if count else torch.ones_like(W, dtype=torch.bool)


def wanda_columns(W, E, sparsity):
    score = (W.abs() * E.sqrt()).T
    return _lowest(score, int(sparsity * score.shape[1])).T


def wanda_without_root(W, E, sparsity):
    return _lowest(W.abs() * E, int(sparsity * W.shape[1]))


def wanda_magnitude(W, E, sparsity):
    return _lowest(W.abs(), int(sparsity * W.shape[1]))


def wanda_signed(W, E, sparsity):
    return _lowest(W * E.sqrt(), int(sparsity * W.shape[1]))


def wanda_rounds(W, E, sparsity):
    return _lowest(W.abs() * E.sqrt(), round(sparsity * W.shape[1] + 0.4))


def wanda_pruned(W, E, sparsity):
    return ~wanda_squares(W, E, sparsity)


def wanda_keeps_the_share(W, E, sparsity):
    return _lowest(W.abs() * E.sqrt(), W.shape[1] - int(sparsity * W.shape[1]))


def wanda_normalised_layer(W, E, sparsity):
    score = W.abs() * E.sqrt()
    return wanda_whole_layer(score / score.mean(1, keepdim=True).clamp_min(1e-9), torch.ones_like(E), sparsity)


# 4.4


def front_pairwise(cost, quality):
    cheaper, better = cost[:, None] <= cost, quality[:, None] >= quality
    strictly = (cost[:, None] < cost) | (quality[:, None] > quality)
    return ~(cheaper & better & strictly).any(0)


def front_sweep(cost, quality):
    points = list(zip(cost.tolist(), quality.tolist()))
    on, best = set(), float("-inf")
    for c, q in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if q > best:
            on.add((c, q))
            best = q
    return [p in on for p in points]


def front_numpy(cost, quality):
    c, q = cost.numpy(), quality.numpy()
    return np.array([not np.any((c <= c[i]) & (q >= q[i]) & ((c < c[i]) | (q > q[i]))) for i in range(len(c))])


def front_strict(cost, quality):
    return [not any(c < a and q > b for c, q in zip(cost, quality)) for a, b in zip(cost, quality)]


def front_drops_equals(cost, quality):
    n = range(len(cost))
    return [not any(j != i and cost[j] <= cost[i] and quality[j] >= quality[i] for j in n) for i in n]


def front_sweep_with_ties(cost, quality):
    on, best = torch.zeros(len(cost), dtype=torch.bool), float("-inf")
    for i in cost.argsort(stable=True).tolist():
        if quality[i] >= best:
            on[i], best = True, quality[i]
    return on


def front_best_of_each_cost(cost, quality):
    return [q == max(r for c, r in zip(cost, quality) if c == a) for a, q in zip(cost, quality)]


def front_lower_is_better(cost, quality):
    return front_pairwise(cost, -quality)


def front_dearer_is_better(cost, quality):
    return front_pairwise(-cost, quality)


def front_complement(cost, quality):
    return ~front_pairwise(cost, quality)


def front_extremes(cost, quality):
    return (cost == cost.min()) | (quality == quality.max())


def front_ratio(cost, quality):
    worth = quality / cost
    return worth == worth.max()


RIGHT = {
    "4.1": [joint_loops, joint_numpy, joint_topk],
    "4.2": [retention_loop, retention_tensor, retention_numpy],
    "4.3": [wanda_loops, wanda_numpy, wanda_squares],
    "4.4": [front_pairwise, front_sweep, front_numpy],
}
WRONG = {
    "4.1": [
        joint_contribution,
        joint_of_the_cast,
        joint_without_energy,
        joint_without_squares,
        joint_plus,
        joint_error_alone,
        joint_whole_matrix,
        joint_threshold,
        joint_upside_down,
        joint_pruned,
        joint_one_too_many,
        joint_energy_squared,
        joint_energy_by_row,
    ],
    "4.2": [
        retention_agreement,
        retention_accuracy,
        retention_of_hits,
        retention_over_agreement,
        retention_clipped,
        retention_percent,
        retention_upside_down,
        retention_difference,
        retention_divides_by_zero,
        retention_zero_for_none,
    ],
    "4.3": [
        wanda_whole_layer,
        wanda_global_threshold,
        wanda_row_threshold,
        wanda_columns,
        wanda_without_root,
        wanda_magnitude,
        wanda_signed,
        wanda_rounds,
        wanda_pruned,
        wanda_keeps_the_share,
        wanda_normalised_layer,
    ],
    "4.4": [
        front_strict,
        front_drops_equals,
        front_sweep_with_ties,
        front_best_of_each_cost,
        front_lower_is_better,
        front_dearer_is_better,
        front_complement,
        front_extremes,
        front_ratio,
    ],
}
