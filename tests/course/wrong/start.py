"""Notebook 00: solutions written differently, and the mistakes that learners make."""

import math

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
    "0.1": [rows_loop, rows_count, rows_numpy],
    "0.2": [perplexity_loop, perplexity_tensor, perplexity_root],
    "0.3": [retention_loop, retention_means],
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
    ],
    "0.3": [
        retention_agreement,
        retention_accuracy,
        retention_same_tokens,
        retention_upside_down,
        retention_clamped,
        retention_difference,
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
