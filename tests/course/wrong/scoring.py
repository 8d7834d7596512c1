"""Solutions of notebook 01's exercises: right ones written differently, and mistakes that learners make."""

import math

import numpy as np
import torch

# 1.1 contribution(W, X)


def contribution_by_loops(W, X):
    return [
        [sum(float(w * x[j]) ** 2 for x in X) / len(X) for j, w in enumerate(row)]  # E[(w x)^2]
        for row in W
    ]


def contribution_numpy(W, X):
    return (W.numpy().astype(np.float64) * np.sqrt((X.numpy().astype(np.float64) ** 2).mean(axis=0))) ** 2


def contribution_by_einsum(W, X):
    return torch.einsum("ij,tj,ij,tj->ij", W, X, W, X) / X.shape[0]


def weight_not_squared(W, X):
    return W.abs() * X.square().mean(0)


def wandas_product(W, X):
    return W.abs() * X.square().mean(0).sqrt()


def sum_of_squares(W, X):
    return W**2 * X.square().sum(0)


def square_of_the_mean(W, X):
    return W**2 * X.mean(0) ** 2


def mean_over_features(W, X):
    return W**2 * X.square().mean(1).mean()


def magnitude_only(W, X):
    return W**2


def signed(W, X):
    return W * W.abs() * X.square().mean(0)


def one_score_a_column(W, X):
    return (W**2 * X.square().mean(0)).mean(0)


def variance(W, X):
    return W**2 * X.var(0, unbiased=False)


# 1.2 scan(L, sparsity, eta, log_q)


def scan_in_log_space(L, sparsity, eta, log_q):
    masks = []
    for column in L.unbind(1):
        hit = column.log() < log_q
        masks.append(hit)
        log_q = torch.where(hit, log_q - eta * (1 - sparsity), log_q + eta * sparsity)
    return torch.stack(masks, 1), log_q


def scan_row_by_row(L, sparsity, eta, log_q):
    pruned, ends = [], []
    for row, log in zip(L.tolist(), log_q.tolist()):
        hits = []
        for x in row:
            hits.append(int(x < math.exp(log)))
            log += eta * (sparsity - hits[-1])
        pruned.append(hits)
        ends.append(log)
    return pruned, ends


def scan_end_by_telescoping(L, sparsity, eta, log_q):
    pruned = torch.zeros_like(L)
    for j in range(L.shape[1]):
        now = log_q + eta * (j * sparsity - pruned.sum(1))
        pruned[:, j] = (L[:, j] < now.exp()).float()
    return pruned, log_q + eta * (L.shape[1] * sparsity - pruned.sum(1))


def _scan(L, sparsity, eta, log_q, *, sign=1, strict=True, kept=False, moves=True, share=None, shared=False, last=True):
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        q = log_q.exp()
        pruned[:, j] = L[:, j] < q if strict else L[:, j] <= q
        hits = pruned[:, j].float()
        if shared:
            hits = hits.mean().expand_as(hits)
        if moves and (last or j < L.shape[1] - 1):
            log_q = log_q + sign * eta * ((sparsity if share is None else share) - hits)
    return (~pruned if kept else pruned), log_q


def scan_returns_q(*args):
    pruned, log_q = _scan(*args)
    return pruned, log_q.exp()


def scan_wrong_sign(*args):
    return _scan(*args, sign=-1)


def scan_at_most(*args):
    return _scan(*args, strict=False)


def scan_returns_kept(*args):
    return _scan(*args, kept=True)


def scan_does_not_move(*args):
    return _scan(*args, moves=False)


def scan_always_half(*args):
    return _scan(*args, share=0.5)


def scan_share_kept(L, sparsity, eta, log_q):
    return _scan(L, sparsity, eta, log_q, share=1 - sparsity)


def scan_one_step_for_all_rows(*args):
    return _scan(*args, shared=True)


def scan_last_step_missing(*args):
    return _scan(*args, last=False)


def scan_adds_to_q(L, sparsity, eta, log_q):
    q, pruned = log_q.exp(), torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < q
        q = q + eta * (sparsity - pruned[:, j].float())
    return pruned, q.log()


def scan_forgets_exp(L, sparsity, eta, log_q):
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < log_q
        log_q = log_q + eta * (sparsity - pruned[:, j].float())
    return pruned, log_q


def scan_moves_first(L, sparsity, eta, log_q):
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        log_q = log_q + eta * (sparsity - (L[:, j] < log_q.exp()).float())
        pruned[:, j] = L[:, j] < log_q.exp()
    return pruned, log_q


def scan_by_sorting(L, sparsity, eta, log_q):
    cut = L.quantile(sparsity, dim=1, keepdim=True)
    return cut > L, cut[:, 0].log()


def scan_returns_one_thing(*args):
    return _scan(*args)[0]


def scan_one_threshold(L, sparsity, eta, log_q):
    q, pruned = log_q[0].clone(), torch.zeros(L.shape, dtype=torch.bool)
    for i in range(L.shape[0]):
        for j in range(L.shape[1]):
            pruned[i, j] = L[i, j] < q.exp()
            q = q + eta * (sparsity - float(pruned[i, j]))
    return pruned, q.expand(L.shape[0])


# 1.4 average(batches, decay)


def average_as_a_weighted_sum(batches, decay):
    weights = torch.tensor([decay ** (len(batches) - 1 - t) for t in range(len(batches))], dtype=torch.float64)
    return (weights[:, None] * batches.double()).sum(0) / weights.sum()


def average_in_steps_that_fall(batches, decay):
    value = batches[0].numpy().copy()
    for t, batch in enumerate(batches.numpy()[1:], 2):
        value += (1 - decay) / (1 - decay**t) * (batch - value)
    return value.tolist()


def average_uncorrected(batches, decay):
    raw = torch.zeros_like(batches[0])
    for x in batches:
        raw = decay * raw + (1 - decay) * x
    return raw


def average_begins_with_the_first_batch(batches, decay):
    value = batches[0].clone()
    for x in batches[1:]:
        value = decay * value + (1 - decay) * x
    return value


def average_corrected_once_only(batches, decay):
    return average_uncorrected(batches, decay) / (1 - decay)


def average_corrected_one_batch_early(batches, decay):
    return average_uncorrected(batches, decay) / (1 - decay ** max(1, len(batches) - 1))


def average_weights_swapped(batches, decay):
    raw = torch.zeros_like(batches[0])
    for x in batches:
        raw = (1 - decay) * raw + decay * x
    return raw / (1 - decay ** len(batches))


def average_corrected_at_every_batch(batches, decay):
    value = torch.zeros_like(batches[0])
    for t, x in enumerate(batches, 1):
        value = (decay * value + (1 - decay) * x) / (1 - decay**t)
    return value


def plain_mean(batches, decay):
    return batches.mean(0)


def last_batch(batches, decay):
    return batches[-1]


def average_backwards(batches, decay):
    return average_uncorrected(batches.flip(0), decay) / (1 - decay ** len(batches))


# 1.3 mask(L, sparsity)


def mask_from_ranks(L, sparsity):
    ranks = L.argsort(dim=1, stable=True).argsort(dim=1)
    return (ranks >= int(sparsity * L.shape[1])).int()


def mask_row_by_row(L, sparsity):
    rows = []
    for row in L.tolist():
        order = sorted(range(len(row)), key=lambda j: (row[j], -j))
        gone = set(order[: math.floor(sparsity * len(row))])
        rows.append([j not in gone for j in range(len(row))])
    return rows


def mask_by_topk(L, sparsity):
    kept = L.topk(L.shape[1] - int(sparsity * L.shape[1]), dim=1).indices
    return torch.zeros(L.shape).scatter(1, kept, 1.0)


def mask_over_the_layer(L, sparsity):
    keep = torch.ones(L.numel(), dtype=torch.bool)
    keep[L.flatten().argsort()[: int(sparsity * L.numel())]] = False
    return keep.view(L.shape)


def mask_by_column(L, sparsity):
    keep = torch.ones(L.shape, dtype=torch.bool)
    return keep.scatter(0, L.argsort(dim=0)[: int(sparsity * L.shape[0])], False)


def mask_loses_ties(L, sparsity):
    prune = int(sparsity * L.shape[1])
    if prune == 0:
        return torch.ones(L.shape, dtype=torch.bool)
    return L.kthvalue(prune, dim=1, keepdim=True).values < L


def mask_keeps_ties(L, sparsity):
    order = L.sort(dim=1).values
    return order[:, [min(int(sparsity * L.shape[1]), L.shape[1] - 1)]] <= L


def mask_rounds_up(L, sparsity):
    return L.argsort(dim=1).argsort(dim=1) >= math.ceil(sparsity * L.shape[1])


def mask_rounds(L, sparsity):
    return L.argsort(dim=1).argsort(dim=1) >= round(sparsity * L.shape[1])


def mask_inverted(L, sparsity):
    return ~mask_from_ranks(L, sparsity).bool()


def mask_of_the_largest(L, sparsity):
    return mask_from_ranks(-L, sparsity)


def mask_confuses_order_with_rank(L, sparsity):
    return L.argsort(dim=1) >= int(sparsity * L.shape[1])


def mask_share_kept(L, sparsity):
    return mask_from_ranks(L, 1 - sparsity)


def mask_by_quantile(L, sparsity):
    return L.quantile(sparsity, dim=1, keepdim=True) <= L


def contribution_with_epsilon(W, X):
    return W**2 * (X.square().mean(0) + 1e-8)


def contribution_unbiased(W, X):
    return W**2 * X.square().sum(0) / max(1, len(X) - 1)


def contribution_mean_of_abs(W, X):
    return (W * X.abs().mean(0)) ** 2


def contribution_of_the_largest(W, X):
    return W**2 * X.square().amax(0)


def contribution_of_the_last_token(W, X):
    return W**2 * X[-1].square()


def contribution_without_zeros(W, X):
    return W**2 * X.square().sum(0) / (X != 0).sum(0).clamp(min=1)


def contribution_normalised(W, X):
    energy = X.square().mean(0)
    return W**2 * energy / energy.sum().clamp_min(1e-30)


def contribution_clamped(W, X):
    return (W**2 * X.square().mean(0)).clamp_min(1e-10)


def contribution_in_bfloat16(W, X):
    return (W.bfloat16() ** 2 * X.bfloat16().square().mean(0)).float()


def contribution_in_half(W, X):
    return (W**2 * X.square().mean(0)).half()


def contribution_six_digits(W, X):
    return (W**2 * X.square().mean(0)).round(decimals=6)


def contribution_over_features(W, X):
    return W**2 * X.square().mean(0) / X.shape[1]


def contribution_double(W, X):
    out = torch.empty(W.shape, dtype=torch.float64)
    for j in range(W.shape[1]):
        out[:, j] = W[:, j].double() ** 2 * torch.dot(X[:, j].double(), X[:, j].double()) / len(X)
    return out


def contribution_of_the_diagonal(W, X):
    return W.square() * torch.diagonal(X.T @ X) / X.size(0)


def scan_backwards(L, sparsity, eta, log_q):
    pruned, end = _scan(L.flip(1), sparsity, eta, log_q)
    return pruned.flip(1), end


def scan_ignores_the_start(L, sparsity, eta, log_q):
    return _scan(L, sparsity, eta, torch.zeros_like(log_q))


def scan_with_epsilon(L, sparsity, eta, log_q):
    return _scan(L + 1e-8, sparsity, eta, log_q)


def scan_eta_over_width(L, sparsity, eta, log_q):
    return _scan(L, sparsity, eta / L.shape[1], log_q)


def scan_in_place(L, sparsity, eta, log_q):
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < log_q.exp()
        log_q += eta * (sparsity - pruned[:, j].float())
    return pruned, log_q


def scan_falls_only(L, sparsity, eta, log_q):
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < log_q.exp()
        log_q = torch.where(pruned[:, j], log_q - eta * (1 - sparsity), log_q)
    return pruned, log_q


def scan_bounded(L, sparsity, eta, log_q):
    pruned = torch.zeros(L.shape, dtype=torch.bool)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < log_q.exp()
        log_q = (log_q + eta * (sparsity - pruned[:, j].float())).clamp(-10, 10)
    return pruned, log_q


def scan_first_row(L, sparsity, eta, log_q):
    pruned, end = _scan(L[:1], sparsity, eta, log_q[:1])
    return pruned.expand(L.shape), end.expand(len(L))


def scan_in_half(L, sparsity, eta, log_q):
    pruned, end = _scan(L.half(), sparsity, eta, log_q.half())
    return pruned, end


def scan_results_swapped(*args):
    return _scan(*args)[::-1]


def scan_numpy(L, sparsity, eta, log_q):
    L, log_q = L.numpy().astype(np.float64), log_q.numpy().astype(np.float64)
    pruned = np.zeros(L.shape)
    for j in range(L.shape[1]):
        pruned[:, j] = L[:, j] < np.exp(log_q)
        log_q = log_q + eta * (sparsity - pruned[:, j])
    return [pruned, log_q]


def average_of_sums(batches, decay):
    raw = torch.zeros_like(batches[0])
    for x in batches:
        raw = decay * raw + x
    return raw


def average_corrected_one_late(batches, decay):
    return average_uncorrected(batches, decay) / (1 - decay ** (len(batches) + 1))


def average_skips_the_first(batches, decay):
    return (
        average_uncorrected(batches[1:], decay) / (1 - decay ** max(1, len(batches) - 1))
        if len(batches) > 1
        else batches[0]
    )


def average_over_features(batches, decay):
    return average_as_a_weighted_sum(batches, decay).mean().expand(batches.shape[1])


def average_corrected_by_count(batches, decay):
    return average_uncorrected(batches, decay) / (1 - decay * len(batches)) if decay * len(batches) != 1 else batches[0]


def average_with_epsilon(batches, decay):
    return average_uncorrected(batches, decay) / (1 - decay ** len(batches)) + 1e-6


def average_of_roots(batches, decay):
    return average_as_a_weighted_sum(batches.sqrt(), decay).square()


def average_whole(batches, decay):
    return average_as_a_weighted_sum(batches, decay).round()


def average_uncorrected_later(batches, decay):
    raw = average_uncorrected(batches, decay)
    return raw / (1 - decay ** len(batches)) if len(batches) < 10 else raw


def average_in_loops(batches, decay):
    total = weight = 0
    for x in batches.double():
        total, weight = decay * total + x, decay * weight + 1
    return (total / weight).tolist()


def mask_with_noise(L, sparsity):
    noise = torch.rand(L.shape, generator=torch.Generator().manual_seed(1)) * 1e-6
    return mask_from_ranks(L + noise, sparsity)


def mask_truncated(L, sparsity):
    return mask_from_ranks(L.int(), sparsity)


def mask_in_half(L, sparsity):
    return mask_from_ranks(L.half(), sparsity)


def mask_in_bfloat16(L, sparsity):
    return mask_from_ranks(L.bfloat16(), sparsity)


def mask_of_magnitudes(L, sparsity):
    return mask_from_ranks(L.abs(), sparsity)


def mask_rounded_scores(L, sparsity):
    return mask_from_ranks(L.round(decimals=4), sparsity)


def mask_one_fewer(L, sparsity):
    return mask_from_ranks(L, max(0.0, sparsity - 1 / L.shape[1]))


def mask_at_least_one(L, sparsity):
    return L.argsort(dim=1).argsort(dim=1) >= max(1, int(sparsity * L.shape[1]))


def mask_share_kept_floor(L, sparsity):
    keep = int((1 - sparsity) * L.shape[1])
    return L.argsort(dim=1, descending=True).argsort(dim=1) < keep


def mask_normalised_layer(L, sparsity):
    return mask_over_the_layer(L / L.abs().mean(1, keepdim=True).clamp_min(1e-30), sparsity)


def mask_first_row(L, sparsity):
    return mask_from_ranks(L[:1], sparsity).expand(L.shape)


def mask_pops_the_smallest(L, sparsity):
    rows = []
    for row in L.tolist():
        left = list(range(len(row)))
        for _ in range(int(sparsity * len(row))):
            left.remove(min(left, key=row.__getitem__))
        rows.append([float(j in left) for j in range(len(row))])
    return np.array(rows)


# 1.6 fooled(n)


def fooled_by_a_wave(n):
    place = torch.arange(n) / n
    noise = torch.rand(n, generator=torch.Generator().manual_seed(0)) + 0.5
    return (3 * torch.sin(2 * math.pi * place)).exp() * noise


def fooled_up_and_down(n):
    way = np.concatenate([np.linspace(0, 5, n // 2), np.linspace(5, 0, n // 2)])
    return (np.exp(way) * np.tile([1.0, 3.0], n // 2)).tolist()


def fooled_random(n):
    return torch.randn(n, generator=torch.Generator().manual_seed(0)).square() + 1e-6


def fooled_sorted(n):
    return torch.linspace(1, 1000, n)


def fooled_all_equal(n):
    return torch.ones(n)


def fooled_zeros(n):
    return torch.arange(n) % 3 // 2


def fooled_too_fast(n):
    return torch.tensor([1.0, 2.0]).repeat(n // 2) * 10.0 ** (torch.arange(n) * 8 / n)


def fooled_short(n):
    return fooled_by_a_wave(n)[:-1]


# 1.7 prune(W, X, sparsity, etas)


def _prune(L, sparsity, etas, log_q, again=False):
    start = log_q
    for eta in etas:
        pruned, log_q = _scan(L, sparsity, eta, start if again else log_q)
    return ~pruned


def prune_row_by_row(W, X, sparsity, etas):
    keep = []
    for row in (W.double() ** 2 * X.double().square().mean(0)).tolist():
        log_q = math.log(sum(row) / len(row))
        for eta in etas:
            kept = []
            for x in row:
                kept.append(x >= math.exp(log_q))
                log_q += eta * (sparsity - (not kept[-1]))
        keep.append(kept)
    return keep


def prune_by_scan(W, X, sparsity, etas):
    L = contribution_by_einsum(W, X)
    return _prune(L, sparsity, etas, L.mean(1).log()).int()


def prune_from_the_mean_each_time(W, X, sparsity, etas):
    L = contribution_by_einsum(W, X)
    return _prune(L, sparsity, etas, L.mean(1).log(), again=True)


def prune_from_the_first_score(W, X, sparsity, etas):
    L = contribution_by_einsum(W, X)
    return _prune(L, sparsity, etas, L[:, 0].log())


def prune_from_one_mean(W, X, sparsity, etas):
    L = contribution_by_einsum(W, X)
    return _prune(L, sparsity, etas, L.mean().log().expand(len(L)))


def prune_says_what_goes(W, X, sparsity, etas):
    return ~prune_by_scan(W, X, sparsity, etas).bool()


def prune_by_magnitude(W, X, sparsity, etas):
    return _prune(W**2, sparsity, etas, (W**2).mean(1).log())


def prune_by_sorting(W, X, sparsity, etas):
    return mask_from_ranks(contribution_by_einsum(W, X), sparsity).bool()


def prune_by_first_scan(W, X, sparsity, etas):
    return prune_by_scan(W, X, sparsity, etas[:1])


RIGHT = {
    "1.1": [
        contribution_by_loops,
        contribution_numpy,
        contribution_by_einsum,
        contribution_double,
        contribution_of_the_diagonal,
    ],
    "1.2": [scan_in_log_space, scan_row_by_row, scan_end_by_telescoping, scan_numpy],
    "1.4": [average_as_a_weighted_sum, average_in_steps_that_fall, average_in_loops],
    "1.3": [mask_from_ranks, mask_row_by_row, mask_by_topk, mask_pops_the_smallest],
    "1.6": [fooled_by_a_wave, fooled_up_and_down],
    "1.7": [prune_row_by_row, prune_by_scan],
}

WRONG = {
    "1.1": [
        weight_not_squared,
        wandas_product,
        sum_of_squares,
        square_of_the_mean,
        mean_over_features,
        magnitude_only,
        signed,
        one_score_a_column,
        variance,
        contribution_with_epsilon,
        contribution_unbiased,
        contribution_mean_of_abs,
        contribution_of_the_largest,
        contribution_of_the_last_token,
        contribution_without_zeros,
        contribution_normalised,
        contribution_clamped,
        contribution_in_bfloat16,
        contribution_in_half,
        contribution_six_digits,
        contribution_over_features,
    ],
    "1.2": [
        scan_returns_q,
        scan_wrong_sign,
        scan_at_most,
        scan_returns_kept,
        scan_does_not_move,
        scan_always_half,
        scan_share_kept,
        scan_one_step_for_all_rows,
        scan_last_step_missing,
        scan_adds_to_q,
        scan_forgets_exp,
        scan_moves_first,
        scan_by_sorting,
        scan_returns_one_thing,
        scan_one_threshold,
        scan_backwards,
        scan_ignores_the_start,
        scan_with_epsilon,
        scan_eta_over_width,
        scan_in_place,
        scan_falls_only,
        scan_bounded,
        scan_first_row,
        scan_in_half,
        scan_results_swapped,
    ],
    "1.4": [
        average_uncorrected,
        average_begins_with_the_first_batch,
        average_corrected_once_only,
        average_corrected_one_batch_early,
        average_weights_swapped,
        average_corrected_at_every_batch,
        plain_mean,
        last_batch,
        average_backwards,
        average_of_sums,
        average_corrected_one_late,
        average_skips_the_first,
        average_over_features,
        average_corrected_by_count,
        average_with_epsilon,
        average_of_roots,
        average_whole,
        average_uncorrected_later,
    ],
    "1.3": [
        mask_over_the_layer,
        mask_by_column,
        mask_loses_ties,
        mask_keeps_ties,
        mask_rounds_up,
        mask_rounds,
        mask_inverted,
        mask_of_the_largest,
        mask_confuses_order_with_rank,
        mask_share_kept,
        mask_by_quantile,
        mask_with_noise,
        mask_truncated,
        mask_in_half,
        mask_in_bfloat16,
        mask_of_magnitudes,
        mask_rounded_scores,
        mask_one_fewer,
        mask_at_least_one,
        mask_share_kept_floor,
        mask_normalised_layer,
        mask_first_row,
    ],
    "1.6": [fooled_random, fooled_sorted, fooled_all_equal, fooled_zeros, fooled_too_fast, fooled_short],
    "1.7": [
        prune_from_the_mean_each_time,
        prune_from_the_first_score,
        prune_from_one_mean,
        prune_says_what_goes,
        prune_by_magnitude,
        prune_by_sorting,
        prune_by_first_scan,
    ],
}
