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


def retention_clipped_or_nan(dense, compressed, target):
    return torch.tensor(retention_loop(dense, compressed, target)).clamp(max=1)


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


def joint_without_negative(W, Wq, E, keep):
    return _highest(((W**2 - (W - Wq) ** 2) * E).clamp(min=0), keep)


def joint_of_magnitudes(W, Wq, E, keep):
    return _highest(((W**2 - (W - Wq) ** 2) * E).abs(), keep)


def joint_squares_apart(W, Wq, E, keep):
    return _highest((W**2 - Wq**2) * E, keep)


def joint_root_of_energy(W, Wq, E, keep):
    return _highest((W**2 - (W - Wq) ** 2) * E.sqrt(), keep)


def joint_only_gains(W, Wq, E, keep):
    score = (W**2 - (W - Wq) ** 2) * E
    return _highest(score, keep) & (score > 0)


def joint_in_bfloat16(W, Wq, E, keep):
    return _highest(((W**2 - (W - Wq) ** 2) * E).bfloat16(), keep)


def joint_with_noise(W, Wq, E, keep):
    noise = torch.rand(W.shape, generator=torch.Generator().manual_seed(0)) * 1e-6
    return _highest((W**2 - (W - Wq) ** 2) * E + noise, keep)


def joint_one_mask_for_all_rows(W, Wq, E, keep):
    return _highest(((W**2 - (W - Wq) ** 2) * E).sum(0, keepdim=True), keep).expand(W.shape)


def joint_relative(W, Wq, E, keep):
    return _highest(-((W - Wq) ** 2 / (W**2).clamp_min(1e-30)) * E, keep)


def joint_prunes_so_many(W, Wq, E, keep):
    return _highest((W**2 - (W - Wq) ** 2) * E, W.shape[1] - keep)


def joint_product(W, Wq, E, keep):
    return _highest(W * Wq * E, keep)


def joint_by_swaps(W, Wq, E, keep):
    lost, saved = (W.double() - Wq.double()) ** 2 * E, W.double() ** 2 * E
    rows = [sorted(range(W.shape[1]), key=lambda j: float(a[j] - b[j]))[:keep] for a, b in zip(lost, saved)]
    return [[j in row for j in range(W.shape[1])] for row in rows]


def retention_one_for_none(dense, compressed, target):
    hits = (dense == target).sum().item()
    return (compressed == target).sum().item() / hits if hits else 1.0


def retention_infinite_for_none(dense, compressed, target):
    return ((compressed == target).sum() / (dense == target).sum()).item()


def retention_nan_for_no_hits(dense, compressed, target):
    return retention_loop(dense, compressed, target) or float("nan")


def retention_two_digits(dense, compressed, target):
    return round(retention_loop(dense, compressed, target), 2)


def retention_by_identity(dense, compressed, target):
    d, c, t = dense.tolist(), compressed.tolist(), target.tolist()
    hits = sum(x is y for x, y in zip(d, t))
    return sum(x is y for x, y in zip(c, t)) / hits if hits else float("nan")


def retention_close(dense, compressed, target):
    hits = [torch.isclose(x.double(), target.double()).sum().item() for x in (compressed, dense)]
    return hits[0] / hits[1] if hits[1] else float("nan")


def retention_in_half(dense, compressed, target):
    return retention_loop(dense.half(), compressed.half(), target.half())


def retention_skips_padding(dense, compressed, target):
    return retention_loop(dense[target != 0], compressed[target != 0], target[target != 0])


def retention_shifted(dense, compressed, target):
    return retention_loop(dense[:-1], compressed[:-1], target[1:])


def retention_nan_as_text(dense, compressed, target):
    hits = (dense == target).sum().item()
    return (compressed == target).sum().item() / hits if hits else "nan"


def retention_of_float_tensors(dense, compressed, target):
    return ((compressed == target).double().sum() / (dense == target).double().sum().sub(0)).masked_fill(
        ~(dense == target).any(), torch.nan
    )


def wanda_energy_squared(W, E, sparsity):
    return _lowest(W.abs() * E.square(), int(sparsity * W.shape[1]))


def wanda_with_epsilon(W, E, sparsity):
    return _lowest(W.abs() * (E + 1e-8).sqrt(), int(sparsity * W.shape[1]))


def wanda_root_of_all(W, E, sparsity):
    return _lowest(W.square() * E.sqrt(), int(sparsity * W.shape[1]))


def wanda_inputs_alone(W, E, sparsity):
    return _lowest(E.expand(W.shape), int(sparsity * W.shape[1]))


def wanda_in_half(W, E, sparsity):
    return _lowest((W.abs() * E.sqrt()).half(), int(sparsity * W.shape[1]))


def wanda_highest_go(W, E, sparsity):
    return _lowest(-W.abs() * E.sqrt(), int(sparsity * W.shape[1]))


def wanda_row_kthvalue(W, E, sparsity):
    score, count = W.abs() * E.sqrt(), int(sparsity * W.shape[1])
    return score > score.kthvalue(count, 1, keepdim=True).values if count else torch.ones_like(W).bool()


def wanda_row_mean(W, E, sparsity):
    score = W.abs() * E.sqrt()
    return score > score.quantile(sparsity, 1, keepdim=True)


def wanda_first_row(W, E, sparsity):
    return wanda_squares(W[:1], E, sparsity).expand(W.shape)


def wanda_order_for_rank(W, E, sparsity):
    return (W.abs() * E.sqrt()).argsort(1) >= int(sparsity * W.shape[1])


def wanda_keeps_count(W, E, sparsity):
    score = W.abs() * E.sqrt()
    return score.argsort(1, descending=True).argsort(1) < int((1 - sparsity) * W.shape[1])


def wanda_normalised(W, E, sparsity):
    score = W.abs() * (E / 10).sqrt()
    return score.argsort(1).argsort(1) >= int(sparsity * W.shape[1])


def wanda_squared_in_float32(W, E, sparsity):
    return _lowest(W.square() * E, int(sparsity * W.shape[1]))


def _hull(cost, quality):
    points = sorted(set(zip(cost.tolist(), quality.tolist())), key=lambda p: (p[0], -p[1]))
    chain = []
    for c, q in points:
        if chain and q <= chain[-1][1]:
            continue
        while len(chain) > 1 and (chain[-1][1] - chain[-2][1]) * (c - chain[-2][0]) < (q - chain[-2][1]) * (
            chain[-1][0] - chain[-2][0]
        ):
            chain.pop()
        chain.append((c, q))
    return chain


def front_hull(cost, quality):
    return [p in _hull(cost, quality) for p in zip(cost.tolist(), quality.tolist())]


def front_in_order_of_cost(cost, quality):
    order = cost.argsort()
    return front_pairwise(cost[order], quality[order])


def front_sorted_by_cost_only(cost, quality):
    on, best = torch.zeros(len(cost), dtype=torch.bool), float("-inf")
    for i in cost.argsort().tolist():
        if quality[i] > best:
            on[i], best = True, quality[i]
    return on


def front_close(cost, quality):
    cheaper, better = cost[:, None] <= cost * (1 + 1e-5), quality[:, None] >= quality - 1e-5
    strictly = (cost[:, None] < cost * (1 - 1e-5)) | (quality[:, None] > quality + 1e-5)
    return ~(cheaper & better & strictly).any(0)


def front_in_half(cost, quality):
    return front_pairwise(cost.half(), quality.half())


def front_best_quality_only(cost, quality):
    return quality == quality.max()


def front_or(cost, quality):
    return ~((cost[:, None] < cost) & (quality[:, None] >= quality)).any(0)


def front_or_other(cost, quality):
    return ~((cost[:, None] <= cost) & (quality[:, None] > quality)).any(0)


def front_places(cost, quality):
    return front_pairwise(cost, quality).nonzero()[:, 0]


def front_above_the_line(cost, quality):
    mean = quality.mean()
    return front_pairwise(cost, quality) & (quality >= mean)


def front_positive(cost, quality):
    on, best = [False] * len(cost), 0.0
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -quality[i])):
        if quality[i] >= best and front_pairwise(cost, quality)[i]:
            on[i], best = True, quality[i]
    return on


def front_by_layers(cost, quality):
    c, q = cost.double().tolist(), quality.double().tolist()
    return torch.tensor(
        [
            q[i] == max(b for a, b in zip(c, q) if a <= c[i]) and c[i] == min(a for a, b in zip(c, q) if b >= q[i])
            for i in range(len(c))
        ],
        dtype=torch.uint8,
    )


# 4.7


def _through(W, grid, scale):
    return W.sign() * grid[((W.abs() / scale)[..., None] - grid).abs().argmin(-1)] * scale


def _row_scale(W, grid):
    top = W.abs().amax(1, keepdim=True)
    return torch.where(top > 0, top / grid[-1], torch.ones_like(top))


def _pass(W, X, grid, keep, score, last=None):
    Q = _through(W, grid, _row_scale(W, grid))
    mask = _highest(score(W, Q, X.square().mean(0)), keep)
    return mask, _through(W * mask, grid, _row_scale(W * mask if last is None else last, grid))


def pass_right(W, X, grid, keep):
    return _pass(W, X, grid, keep, lambda W, Q, E: (W**2 - (W - Q) ** 2) * E)


def pass_double(W, X, grid, keep):
    return pass_right(W.double(), X.double(), grid.double(), keep)


def pass_loops(W, X, grid, keep):
    values, mask, new = grid.tolist(), [], []

    def through(row, scale):
        return [min(values, key=lambda v: abs(abs(w) / scale - v)) * scale * (1 if w > 0 else -1) for w in row]

    for row in W.tolist():
        Q = through(row, max(map(abs, row)) / values[-1] or 1.0)
        E = [sum(float(x) ** 2 for x in column) for column in X.T]  # sums order as means do
        gain = [(w * w - (w - q) ** 2) * e for w, q, e in zip(row, Q, E)]
        best = set(sorted(range(len(row)), key=lambda j: -gain[j])[:keep])
        left = [w if j in best else 0.0 for j, w in enumerate(row)]
        mask.append([j in best for j in range(len(row))])
        new.append(through(left, max(map(abs, left)) / values[-1] or 1.0))
    return mask, new


def pass_contribution(W, X, grid, keep):
    return _pass(W, X, grid, keep, lambda W, Q, E: W**2 * E)


def pass_of_the_cast(W, X, grid, keep):
    return _pass(W, X, grid, keep, lambda W, Q, E: Q**2 * E)


def pass_without_energy(W, X, grid, keep):
    return _pass(W, X, grid, keep, lambda W, Q, E: W**2 - (W - Q) ** 2)


def pass_mean_input(W, X, grid, keep):
    mask = _highest((W**2 - (W - _through(W, grid, _row_scale(W, grid))) ** 2) * X.mean(0).square(), keep)
    return mask, _through(W * mask, grid, _row_scale(W * mask, grid))


def pass_scale_of_all(W, X, grid, keep):
    return _pass(W, X, grid, keep, lambda W, Q, E: (W**2 - (W - Q) ** 2) * E, last=W)


def pass_scale_of_tensor(W, X, grid, keep):
    mask, _ = pass_right(W, X, grid, keep)
    scale = (W * mask).abs().amax() / grid[-1]
    return mask, _through(W * mask, grid, scale if scale > 0 else torch.tensor(1.0))


def pass_not_cast(W, X, grid, keep):
    mask, _ = pass_right(W, X, grid, keep)
    return mask, W * mask


def pass_pruned_stay(W, X, grid, keep):
    mask, _ = pass_right(W, X, grid, keep)
    return mask, _through(W, grid, _row_scale(W * mask, grid))


def pass_signless(W, X, grid, keep):
    mask, new = pass_right(W, X, grid, keep)
    return mask, new.abs()


def pass_upside_down(W, X, grid, keep):
    return _pass(W, X, grid, keep, lambda W, Q, E: -(W**2 - (W - Q) ** 2) * E)


def pass_whole_matrix(W, X, grid, keep):
    Q = _through(W, grid, _row_scale(W, grid))
    gain = (W**2 - (W - Q) ** 2) * X.square().mean(0)
    mask = _highest(gain.reshape(1, -1), keep * len(W)).reshape(W.shape)
    return mask, _through(W * mask, grid, _row_scale(W * mask, grid))


def pass_scale_of_zero(W, X, grid, keep):
    mask, _ = pass_right(W, X, grid, keep)
    left = W * mask
    scale = left.abs().amax(1, keepdim=True) / grid[-1]
    return mask, _through(left, grid, scale)


def pass_rounds_down(W, X, grid, keep):
    mask, _ = pass_right(W, X, grid, keep)
    left, scale = W * mask, _row_scale(W * mask, grid)
    below = (((left.abs() / scale)[..., None] >= grid).sum(-1) - 1).clamp_min(0)
    return mask, left.sign() * grid[below] * scale


def pass_mask_alone(W, X, grid, keep):
    return pass_right(W, X, grid, keep)[0]


RIGHT = {
    "4.1": [joint_loops, joint_numpy, joint_topk, joint_by_swaps],
    "4.2": [retention_loop, retention_tensor, retention_numpy, retention_of_float_tensors],
    "4.3": [wanda_loops, wanda_numpy, wanda_squares, wanda_normalised, wanda_squared_in_float32],
    "4.4": [front_pairwise, front_sweep, front_numpy, front_by_layers],
    "4.7": [pass_right, pass_double, pass_loops, pass_scale_of_zero],
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
        joint_without_negative,
        joint_of_magnitudes,
        joint_squares_apart,
        joint_root_of_energy,
        joint_only_gains,
        joint_in_bfloat16,
        joint_with_noise,
        joint_one_mask_for_all_rows,
        joint_relative,
        joint_prunes_so_many,
        joint_product,
    ],
    "4.2": [
        retention_agreement,
        retention_accuracy,
        retention_of_hits,
        retention_over_agreement,
        retention_clipped,
        retention_clipped_or_nan,
        retention_percent,
        retention_upside_down,
        retention_difference,
        retention_divides_by_zero,
        retention_zero_for_none,
        retention_one_for_none,
        retention_infinite_for_none,
        retention_nan_for_no_hits,
        retention_two_digits,
        retention_by_identity,
        retention_close,
        retention_in_half,
        retention_skips_padding,
        retention_shifted,
        retention_nan_as_text,
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
        wanda_energy_squared,
        wanda_with_epsilon,
        wanda_root_of_all,
        wanda_inputs_alone,
        wanda_in_half,
        wanda_highest_go,
        wanda_row_kthvalue,
        wanda_row_mean,
        wanda_first_row,
        wanda_order_for_rank,
        wanda_keeps_count,
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
        front_hull,
        front_in_order_of_cost,
        front_sorted_by_cost_only,
        front_close,
        front_in_half,
        front_best_quality_only,
        front_or,
        front_or_other,
        front_places,
        front_above_the_line,
        front_positive,
    ],
    "4.7": [
        pass_contribution,
        pass_of_the_cast,
        pass_without_energy,
        pass_mean_input,
        pass_scale_of_all,
        pass_scale_of_tensor,
        pass_not_cast,
        pass_pruned_stay,
        pass_signless,
        pass_upside_down,
        pass_whole_matrix,
        pass_rounds_down,
        pass_mask_alone,
    ],
}
