"""Notebook 00: solutions written differently, and the mistakes that learners make."""

import math

import numpy as np
import torch


def rows_loop(W):
    return [sum(1 for w in row if w == 0) / len(row) for row in W.tolist()]


def rows_count(W):
    return 1 - W.count_nonzero(dim=1) / W.shape[1]


def rows_numpy(W):
    return (W.numpy() == 0).mean(axis=1, keepdims=True)


def rows_columns(W):
    return (W == 0).float().mean(dim=0)


def rows_density(W):
    return (W != 0).float().mean(dim=1)


def rows_whole(W):
    return (W == 0).float().mean()


def rows_counts(W):
    return (W == 0).sum(dim=1)


def rows_not_positive(W):
    return (W <= 0).float().mean(dim=1)


def rows_close(W):
    return torch.isclose(W, torch.zeros(())).float().mean(dim=1)


def rows_by_rows(W):
    return (W == 0).sum(dim=1) / W.shape[0]


def perplexity_loop(log_probs):
    return math.exp(-sum(float(x) for x in log_probs) / len(log_probs))


def perplexity_tensor(log_probs):
    return torch.exp(-log_probs.mean())


def perplexity_root(log_probs):
    return (1 / log_probs.double().exp()).log().mean().exp()


def perplexity_sign(log_probs):
    return log_probs.mean().exp()


def perplexity_sum(log_probs):
    return (-log_probs.sum()).exp()


def perplexity_no_exp(log_probs):
    return -log_probs.mean()


def perplexity_two(log_probs):
    return 2 ** -log_probs.mean()


def perplexity_mean_of_inverse(log_probs):
    return (-log_probs).exp().mean()


def perplexity_inverse_of_mean(log_probs):
    return 1 / log_probs.exp().mean()


def perplexity_product(log_probs):
    return log_probs.exp().prod() ** (-1 / len(log_probs))


def perplexity_product_in_double(log_probs):
    return math.prod(math.exp(x) for x in log_probs.tolist()) ** (-1 / len(log_probs))


def perplexity_skips_first(log_probs):
    return (-log_probs[1:].mean()).exp()


def retention_loop(target, dense, model):
    hits = [0, 0]
    for t, d, m in zip(target.tolist(), dense.tolist(), model.tolist()):
        hits = [hits[0] + (d == t), hits[1] + (m == t)]
    return hits[1] / hits[0]


def retention_means(target, dense, model):
    return (model == target).double().mean() / (dense == target).double().mean()


def retention_agreement(target, dense, model):
    return (model == dense).float().mean()


def retention_accuracy(target, dense, model):
    return (model == target).float().mean()


def retention_same_tokens(target, dense, model):
    right = dense == target
    return (model[right] == target[right]).float().mean()


def retention_upside_down(target, dense, model):
    return (dense == target).sum() / (model == target).sum()


def retention_clamped(target, dense, model):
    return ((model == target).sum() / (dense == target).sum()).clamp(max=1)


def retention_difference(target, dense, model):
    return 1 - ((dense == target).float().mean() - (model == target).float().mean())


def rows_as_integers(W):
    return (W.int() == 0).float().mean(dim=1)


def rows_rounded_weights(W):
    return (W.round() == 0).float().mean(dim=1)


def rows_squares(W):
    return (W * W == 0).float().mean(dim=1)


def rows_tiny_is_zero(W):
    return (W.abs() < 1e-10).float().mean(dim=1)


def rows_in_half(W):
    return (W.half() == 0).float().mean(dim=1)


def rows_not_minus_zero(W):
    return (W.contiguous().view(torch.int32) == 0).float().mean(dim=1)


def rows_in_a_byte(W):
    return (W == 0).to(torch.uint8).sum(dim=1, dtype=torch.uint8) / W.shape[1]


def rows_to_two_digits(W):
    return ((W == 0).double().mean(dim=1) * 100).round() / 100


def rows_percent(W):
    return 100 * (W == 0).float().mean(dim=1)


def rows_all_the_same(W):
    return (W == 0).float().mean().expand(len(W))


def rows_smallest_is_zero(W):
    return (W.abs() == W.abs().min()).float().mean(dim=1)


def rows_by_set(W):
    return torch.stack([1 - row.bool().double().mean() for row in W.unbind(0)])


def perplexity_whole(log_probs):
    return float(int(math.exp(-log_probs.mean()) + 1e-4))


def perplexity_two_digits(log_probs):
    return round(math.exp(-log_probs.double().mean()), 2)


def perplexity_clamped(log_probs):
    return (-log_probs.clamp(min=-20).mean()).exp()


def perplexity_eps(log_probs):
    return (-(log_probs.double().exp() + 1e-9).log().mean()).exp()


def perplexity_without_certain(log_probs):
    some = log_probs[log_probs < 0]
    return (-some.mean()).exp() if len(some) else 1.0


def perplexity_of_different(log_probs):
    return (-log_probs.unique().mean()).exp()


def perplexity_median(log_probs):
    return (-log_probs.median()).exp()


def perplexity_one_less(log_probs):
    return (-log_probs.sum() / max(1, len(log_probs) - 1)).exp()


def perplexity_skips_last(log_probs):
    return (-log_probs[: max(1, len(log_probs) - 1)].mean()).exp()


def perplexity_half(log_probs):
    return (-log_probs.half().mean()).exp().float()


def perplexity_bfloat(log_probs):
    return (-log_probs.bfloat16().mean()).exp().float()


def perplexity_in_windows(log_probs):
    return sum(math.exp(-part.mean()) for part in log_probs.split(2)) / len(log_probs.split(2))


def perplexity_ten(log_probs):
    return 10 ** -log_probs.double().mean()


def perplexity_numpy_of_base_two(log_probs):
    return 2 ** float(-(log_probs.double() / math.log(2)).mean())


def perplexity_running(log_probs):
    mean = 0.0
    for count, value in enumerate(log_probs.tolist(), 1):
        mean += (value - mean) / count
    return [math.exp(-mean)]


def retention_by_identity(target, dense, model):
    t, d, m = target.tolist(), dense.tolist(), model.tolist()
    return sum(a is b for a, b in zip(m, t)) / max(1, sum(a is b for a, b in zip(d, t)))


def retention_close(target, dense, model):
    near = [torch.isclose(x.double(), target.double()).sum() for x in (model, dense)]
    return near[0] / near[1]


def retention_in_half(target, dense, model):
    t, d, m = target.half(), dense.half(), model.half()
    return (m == t).sum() / (d == t).sum()


def retention_in_bytes(target, dense, model):
    t, d, m = (x.to(torch.uint8) for x in (target, dense, model))
    return (m == t).sum() / (d == t).sum()


def retention_in_16_bits(target, dense, model):
    t, d, m = (x.to(torch.int16) for x in (target, dense, model))
    return (m == t).sum() / (d == t).sum()


def retention_skips_padding(target, dense, model):
    real = target != 0
    return ((model == target) & real).sum() / ((dense == target) & real).sum().clamp(min=1)


def retention_of_different_tokens(target, dense, model):
    return len(target[model == target].unique()) / len(target[dense == target].unique())


def retention_whole(target, dense, model):
    return (model == target).sum() // (dense == target).sum()


def retention_over_agreement(target, dense, model):
    return (model == target).sum() / (model == dense).sum()


def retention_two_digits(target, dense, model):
    return round(((model == target).sum() / (dense == target).sum()).item(), 2)


def retention_one_more(target, dense, model):
    return ((model == target).sum() + 1) / ((dense == target).sum() + 1)


def retention_of_errors(target, dense, model):
    return (dense != target).sum() / (model != target).sum()


def retention_by_differences(target, dense, model):
    wrong = [np.count_nonzero((x - target).numpy()) for x in (model, dense)]
    return np.float32((len(target) - wrong[0]) / (len(target) - wrong[1]))


def prune_by_sorted_rows(W, E, count):
    out = W.clone()
    for row in out:
        for column in sorted(range(len(row)), key=lambda j: abs(row[j].item()) * E[j].item() ** 0.5)[:count]:
            row[column] = 0
    return out


def prune_by_topk(W, E, count):
    keep = (W.double() ** 2 * E).topk(W.shape[1] - count, dim=1).indices
    return torch.zeros_like(W).scatter(1, keep, W.gather(1, keep))


def prune_by_rank(W, E, count):
    ranks = (W**2 * E).argsort(dim=1, descending=True).argsort(dim=1)
    return (W * (ranks < W.shape[1] - count)).numpy()


def prune_by_magnitude(W, E, count):
    return W.scatter(1, W.abs().argsort(dim=1)[:, :count], 0.0)


def prune_the_highest(W, E, count):
    return W.scatter(1, (W**2 * E).argsort(dim=1, descending=True)[:, :count], 0.0)


def prune_without_square(W, E, count):
    return W.scatter(1, (W * E).argsort(dim=1)[:, :count], 0.0)


def prune_magnitude_times_energy(W, E, count):
    return W.scatter(1, (W.abs() * E).argsort(dim=1)[:, :count], 0.0)


def prune_keeps_count(W, E, count):
    return W.scatter(1, (W**2 * E).argsort(dim=1)[:, : W.shape[1] - count], 0.0)


def prune_over_the_matrix(W, E, count):
    out = W.flatten().clone()
    out[(W**2 * E).flatten().argsort()[: count * len(W)]] = 0
    return out.view_as(W)


def prune_by_threshold(W, E, count):
    scores = W**2 * E
    return W if count == 0 else W * (scores > scores.sort(dim=1).values[:, count - 1 : count])


def prune_below_threshold(W, E, count):
    scores = W**2 * E
    return W * (scores >= scores.sort(dim=1).values[:, min(count, W.shape[1] - 1), None])


def prune_returns_mask(W, E, count):
    return torch.ones_like(W).scatter(1, (W**2 * E).argsort(dim=1)[:, :count], 0.0)


def prune_returns_scores(W, E, count):
    return (W**2 * E).scatter(1, (W**2 * E).argsort(dim=1)[:, :count], 0.0)


def prune_in_place(W, E, count):
    return W.scatter_(1, (W**2 * E).argsort(dim=1)[:, :count], 0.0)


def prune_columns(W, E, count):
    return W * (torch.arange(W.shape[1]) >= count)


def prune_energy_alone(W, E, count):
    return W.index_fill(1, E.argsort()[:count], 0.0)


RIGHT = {
    "0.1": [rows_loop, rows_count, rows_numpy, rows_by_set],
    "0.2": [perplexity_loop, perplexity_tensor, perplexity_root, perplexity_numpy_of_base_two, perplexity_running],
    "0.3": [retention_loop, retention_means, retention_by_differences],
    "0.5": [prune_by_sorted_rows, prune_by_topk, prune_by_rank],
}
WRONG = {
    "0.1": [
        rows_columns,
        rows_density,
        rows_whole,
        rows_counts,
        rows_not_positive,
        rows_close,
        rows_by_rows,
        rows_as_integers,
        rows_rounded_weights,
        rows_squares,
        rows_tiny_is_zero,
        rows_in_half,
        rows_not_minus_zero,
        rows_in_a_byte,
        rows_to_two_digits,
        rows_percent,
        rows_all_the_same,
        rows_smallest_is_zero,
    ],
    "0.2": [
        perplexity_sign,
        perplexity_sum,
        perplexity_no_exp,
        perplexity_two,
        perplexity_mean_of_inverse,
        perplexity_inverse_of_mean,
        perplexity_product,
        perplexity_product_in_double,
        perplexity_skips_first,
        perplexity_whole,
        perplexity_two_digits,
        perplexity_clamped,
        perplexity_eps,
        perplexity_without_certain,
        perplexity_of_different,
        perplexity_median,
        perplexity_one_less,
        perplexity_skips_last,
        perplexity_half,
        perplexity_bfloat,
        perplexity_in_windows,
        perplexity_ten,
    ],
    "0.3": [
        retention_agreement,
        retention_accuracy,
        retention_same_tokens,
        retention_upside_down,
        retention_clamped,
        retention_difference,
        retention_by_identity,
        retention_close,
        retention_in_half,
        retention_in_bytes,
        retention_in_16_bits,
        retention_skips_padding,
        retention_of_different_tokens,
        retention_whole,
        retention_over_agreement,
        retention_two_digits,
        retention_one_more,
        retention_of_errors,
    ],
    "0.5": [
        prune_by_magnitude,
        prune_the_highest,
        prune_without_square,
        prune_magnitude_times_energy,
        prune_keeps_count,
        prune_over_the_matrix,
        prune_by_threshold,
        prune_below_threshold,
        prune_returns_mask,
        prune_returns_scores,
        prune_in_place,
        prune_columns,
        prune_energy_alone,
    ],
}
