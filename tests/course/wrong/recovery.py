"""Notebook 07: solutions written differently, and the mistakes that learners make."""

import itertools

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div


def refit_add(w, H, keep):
    v = torch.where(keep, w, 0)
    if keep.any() and not keep.all():
        v[keep] += torch.linalg.inv(H[keep][:, keep]) @ H[keep][:, ~keep] @ w[~keep]
    return v


def refit_lstsq(w, H, keep):
    root = torch.linalg.cholesky(H).T
    v = torch.zeros_like(w)
    if keep.any():
        v[keep] = torch.linalg.lstsq(root[:, keep], (root @ w)[:, None]).solution[:, 0]
    return v


def refit_not(w, H, keep):
    return torch.where(keep, w, 0)


def refit_dense(w, H, keep):
    return torch.linalg.solve(H, H @ w)


def refit_part_of_inverse(w, H, keep):
    v = torch.zeros_like(w)
    v[keep] = torch.linalg.inv(H)[keep][:, keep] @ (H[keep] @ w)
    return v


def refit_difference(w, H, keep):
    v = torch.zeros_like(w)
    if keep.any():
        v[keep] = torch.linalg.solve(H[keep][:, keep], H[keep][:, ~keep] @ w[~keep])
    return v


def refit_sign(w, H, keep):
    v = torch.where(keep, w, 0)
    if keep.any():
        v[keep] -= torch.linalg.solve(H[keep][:, keep], H[keep][:, ~keep] @ w[~keep])
    return v


def refit_diagonal(w, H, keep):
    return torch.where(keep, (H @ w) / H.diagonal(), 0)


def kl_torch(teacher, student):
    return kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean")


def kl_loop(teacher, student):
    rows = []
    for t, s in zip(teacher.double(), student.double()):
        p, q = t - t.logsumexp(0), s - s.logsumexp(0)
        rows.append(float((p.exp() * (p - q)).sum()))
    return sum(rows) / len(rows)


def kl_entropy(teacher, student):
    p = teacher.softmax(-1)
    return cross_entropy(student, p) - cross_entropy(teacher, p)


def kl_reversed(teacher, student):
    return kl_torch(student, teacher)


def kl_sum(teacher, student):
    return kl_torch(teacher, student) * len(teacher)


def kl_mean_of_all(teacher, student):
    return kl_torch(teacher, student) / teacher.shape[1]


def kl_cross_entropy(teacher, student):
    return cross_entropy(student, teacher.softmax(-1))


def kl_sign(teacher, student):
    return -kl_torch(teacher, student)


def kl_overflow(teacher, student):
    p, q = teacher.exp() / teacher.exp().sum(-1, True), student.exp() / student.exp().sum(-1, True)
    return (p * (p / q).log()).sum(-1).mean()


def kl_underflow(teacher, student):
    p = teacher.softmax(-1)
    return (p * (p.log() - student.log_softmax(-1))).sum(-1).mean()


def kl_logits(teacher, student):
    return (teacher.softmax(-1) * (teacher - student)).sum(-1).mean()


def spend_sort(costs, steps):
    rises = sorted((cost[k + 1] - cost[k], k, i) for i, cost in enumerate(costs) for k in range(len(cost) - 1))
    taken = [0] * len(costs)
    for _, _, i in rises[:steps]:
        taken[i] += 1
    return taken


def spend_all(costs, steps):
    ways = (w for w in itertools.product(*(range(len(cost)) for cost in costs)) if sum(w) == steps)
    return torch.tensor(min(ways, key=lambda w: sum(cost[n] for n, cost in zip(w, costs))))


def spend_even(costs, steps):
    taken, i = [0] * len(costs), 0
    while sum(taken) < steps:
        if taken[i % len(costs)] + 1 < len(costs[i % len(costs)]):
            taken[i % len(costs)] += 1
        i += 1
    return taken


def spend_total(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        taken[min(room, key=lambda i: costs[i][taken[i] + 1])] += 1
    return taken


def spend_first(costs, steps):
    taken = []
    for cost in costs:
        taken.append(min(steps - sum(taken), len(cost) - 1))
    return taken


def spend_too_many(costs, steps):
    return [steps] * len(costs)


def refit_damped(w, H, keep):
    v = torch.zeros_like(w)
    if keep.any():
        part = H[keep][:, keep]
        v[keep] = torch.linalg.solve(part + 0.01 * torch.eye(len(part)), H[keep] @ w)
    return v


def refit_damped_little(w, H, keep):
    v = torch.zeros_like(w)
    if keep.any():
        part = H[keep][:, keep]
        v[keep] = torch.linalg.solve(part + 1e-6 * torch.eye(len(part)), H[keep] @ w)
    return v


def refit_from_kept(w, H, keep):
    v = torch.zeros_like(w)
    if keep.any():
        v[keep] = torch.linalg.solve(H[keep][:, keep], H[keep][:, keep] @ w[keep])
    return v


def refit_no_mask(w, H, keep):
    return w.clone()


def refit_swapped_mask(w, H, keep):
    return refit_add(w, H, ~keep)


def refit_fails_on_nothing(w, H, keep):
    v = refit_add(w, H, keep)
    return v / v.abs().max() * v.abs().max()


def refit_scaled(w, H, keep):
    v = torch.where(keep, w, 0)
    top = v @ H @ v
    return v * (v @ H @ w) / top if top > 0 else v


def refit_one_by_one(w, H, keep):
    inverse, v = torch.linalg.inv(H), w.clone()
    for p in (~keep).nonzero()[:, 0].tolist():
        v = v - w[p] / inverse[p, p] * inverse[:, p]
    return torch.where(keep, v, 0)


def refit_in_place(w, H, keep):
    w *= keep
    return w


def refit_only_kept(w, H, keep):
    return refit_add(w, H, keep)[keep]


def refit_not_quite_zero(w, H, keep):
    return torch.where(keep, refit_add(w, H, keep), 1e-8)


def refit_surgeon(w, H, keep):
    v, H = w.double().clone(), H.double()
    inverse = torch.linalg.inv(H)
    for p in (~keep).nonzero()[:, 0].tolist():
        v -= v[p] / inverse[p, p] * inverse[:, p]
        inverse = inverse - inverse[:, p : p + 1] @ inverse[p : p + 1] / inverse[p, p]
    return torch.where(keep, v, 0.0)


def kl_with_epsilon(teacher, student):
    p, q = teacher.softmax(-1), student.softmax(-1)
    return (p * ((p + 1e-8).log() - (q + 1e-8).log())).sum(-1).mean()


def kl_clamped(teacher, student):
    p, q = teacher.double().softmax(-1).clamp_min(1e-12), student.double().softmax(-1).clamp_min(1e-12)
    return (p * (p / q).log()).sum(-1).mean()


def kl_bits(teacher, student):
    return kl_torch(teacher, student) / 0.6931472


def kl_over_tokens(teacher, student):
    return kl_torch(teacher.T, student.T)


def kl_of_all_at_once(teacher, student):
    return kl_torch(teacher.reshape(1, -1), student.reshape(1, -1))


def kl_symmetric(teacher, student):
    return (kl_torch(teacher, student) + kl_torch(student, teacher)) / 2


def kl_first_token(teacher, student):
    return kl_torch(teacher[:1], student[:1])


def kl_last_token(teacher, student):
    return kl_torch(teacher[-1:], student[-1:])


def kl_absolute(teacher, student):
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (p.exp() * (p - q).abs()).sum(-1).mean()


def kl_squared(teacher, student):
    return (teacher - student).square().mean()


def kl_temperature(teacher, student):
    return 4 * kl_torch(teacher / 2, student / 2)


def kl_each_token(teacher, student):
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def kl_nan_to_zero(teacher, student):
    p, q = teacher.softmax(-1), student.softmax(-1)
    return (p * (p / q).log()).nan_to_num(0, 0, 0).sum(-1).mean()


def kl_numpy(teacher, student):
    t, s = (a.double().numpy() for a in (teacher, student))
    p, q = (a - a.max(1, keepdims=True) for a in (t, s))
    p, q = (a - np.log(np.exp(a).sum(1, keepdims=True)) for a in (p, q))
    return np.mean(np.sum(np.exp(p) * (p - q), axis=1))


def spend_gain_so_far(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        taken[min(room, key=lambda i: costs[i][taken[i] + 1] - costs[i][0])] += 1
    return taken


def spend_from_zero(costs, steps):
    return spend_total([[c if k else 0.0 for k, c in enumerate(cost)] for cost in costs], steps)


def spend_ratio(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        taken[min(room, key=lambda i: costs[i][taken[i] + 1] / max(costs[i][taken[i]], 1e-9))] += 1
    return taken


def spend_present_cost(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        taken[min(room, key=lambda i: costs[i][taken[i]])] += 1
    return taken


def spend_first_step_decides(costs, steps):
    taken = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: costs[i][1] - costs[i][0] if len(costs[i]) > 1 else 9e9):
        taken[i] = min(steps - sum(taken), len(costs[i]) - 1)
    return taken


def spend_dearest(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if taken[i] + 1 < len(cost)]
        taken[max(room, key=lambda i: costs[i][taken[i] + 1] - costs[i][taken[i]])] += 1
    return taken


def spend_counts_the_start(costs, steps):
    return [k + 1 for k in spend_sort(costs, steps)]


def spend_one_short(costs, steps):
    return spend_sort(costs, max(0, steps - 1))


def spend_runs_over(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        best = min(range(len(costs)), key=lambda i: costs[i][taken[i] + 1] - costs[i][taken[i]])
        taken[best] += 1
    return taken


def spend_pops(costs, steps):
    taken = [0] * len(costs)
    for _ in range(steps):
        room = [i for i, cost in enumerate(costs) if len(cost) > 1]
        best = min(room, key=lambda i: costs[i][1] - costs[i][0])
        costs[best].pop(0)
        taken[best] += 1
    return taken


def spend_total_cost(costs, steps):
    return sum(cost[n] for n, cost in zip(spend_sort(costs, steps), costs))


def spend_rounded(costs, steps):
    return spend_sort([[round(c) for c in cost] for cost in costs], steps)


def spend_table(costs, steps):
    best = {0: (0.0, ())}
    for cost in costs:
        best = {
            n: min((best[n - k][0] + cost[k], (*best[n - k][1], k)) for k in range(len(cost)) if n - k in best)
            for n in range(steps + 1)
            if any(n - k in best for k in range(len(cost)))
        }
    return np.array(best[steps][1])


def _parts(W, X, count):
    H = X.T @ X / len(X)
    keep = torch.ones_like(W, dtype=torch.bool)
    for row, w in zip(keep, W):
        row[(w**2 * H.diagonal()).argsort()[:count]] = False
    return H, keep, torch.stack([refit_add(w, H, k) for w, k in zip(W, keep)])


def recover_autograd(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    for _ in range(steps):
        V = V.detach().requires_grad_()
        kl_torch(X @ W.T, X @ V.T).backward()
        V = V.detach() - rate * torch.where(keep, V.grad, 0)
    return V.detach()


def recover_numpy(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    V, W, X, keep = (a.numpy().astype(np.float64) for a in (V, W, X, keep))

    def chances(V):
        e = np.exp(X @ V.T - (X @ V.T).max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    for _ in range(steps):
        V = V - rate * keep * ((chances(V) - chances(W)).T @ X) / len(X)
    return V


def recover_descend(W, X, V, keep, steps, rate, p=None, divide=True):
    p = (X @ W.T).softmax(1) if p is None else p
    for _ in range(steps):
        V = V - rate * keep * (((X @ V.T).softmax(1) - p).T @ X) / (len(X) if divide else 1)
    return V


def recover_unsolved(W, X, count, steps, rate):
    _, keep, _ = _parts(W, X, count)
    return recover_descend(W, X, W * keep, keep, steps, rate)


def recover_untrained(W, X, count, steps, rate):
    return _parts(W, X, count)[2]


def recover_dense_gradient(W, X, count, steps, rate):
    return recover_descend(W, X, _parts(W, X, count)[2], torch.tensor(1), steps, rate)


def recover_masked_at_the_end(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    return recover_descend(W, X, V, torch.tensor(1), steps, rate) * keep


def recover_magnitude(W, X, count, steps, rate):
    H = X.T @ X / len(X)
    keep = torch.ones_like(W, dtype=torch.bool).scatter(1, W.abs().topk(count, 1, largest=False).indices, False)
    V = torch.stack([refit_add(w, H, k) for w, k in zip(W, keep)])
    return recover_descend(W, X, V, keep, steps, rate)


def recover_highest(W, X, count, steps, rate):
    H = X.T @ X / len(X)
    keep = torch.ones_like(W, dtype=torch.bool).scatter(1, (W**2 * H.diagonal()).topk(count, 1).indices, False)
    V = torch.stack([refit_add(w, H, k) for w, k in zip(W, keep)])
    return recover_descend(W, X, V, keep, steps, rate)


def recover_over_the_matrix(W, X, count, steps, rate):
    H = X.T @ X / len(X)
    scores = W**2 * H.diagonal()
    keep = (scores > scores.flatten().sort().values[count * len(W) - 1]) if count else scores >= 0
    V = torch.stack([refit_add(w, H, k) for w, k in zip(W, keep)])
    return recover_descend(W, X, V, keep, steps, rate)


def recover_sum(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    return recover_descend(W, X, V, keep, steps, rate, divide=False)


def recover_uphill(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    return recover_descend(W, X, V, keep, steps, -rate)


def recover_text(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    p = torch.nn.functional.one_hot((X @ W.T).argmax(1), len(W)).to(W.dtype)
    return recover_descend(W, X, V, keep, steps, rate, p=p)


def recover_squares(W, X, count, steps, rate):
    H, keep, V = _parts(W, X, count)
    for _ in range(steps):
        V = V - rate * keep * ((V - W) @ H)
    return V


def recover_one_step_more(W, X, count, steps, rate):
    return recover_autograd(W, X, count, steps + 1, rate)


def recover_dense(W, X, count, steps, rate):
    return W.clone()


def recover_backward_divergence(W, X, count, steps, rate):
    _, keep, V = _parts(W, X, count)
    for _ in range(steps):
        V = V.detach().requires_grad_()
        kl_torch(X @ V.T, X @ W.T).backward()
        V = V.detach() - rate * keep * V.grad
    return V.detach()


RIGHT = {
    "7.1": [refit_add, refit_lstsq, refit_surgeon],
    "7.2": [kl_torch, kl_loop, kl_entropy, kl_numpy],
    "7.3": [spend_sort, spend_all, spend_table],
    "7.5": [recover_autograd, recover_numpy],
}
WRONG = {
    "7.1": [
        refit_not,
        refit_dense,
        refit_part_of_inverse,
        refit_difference,
        refit_sign,
        refit_diagonal,
        refit_damped,
        refit_damped_little,
        refit_from_kept,
        refit_no_mask,
        refit_swapped_mask,
        refit_fails_on_nothing,
        refit_scaled,
        refit_one_by_one,
        refit_in_place,
        refit_only_kept,
        refit_not_quite_zero,
    ],
    "7.2": [
        kl_reversed,
        kl_sum,
        kl_mean_of_all,
        kl_cross_entropy,
        kl_sign,
        kl_overflow,
        kl_underflow,
        kl_logits,
        kl_with_epsilon,
        kl_clamped,
        kl_bits,
        kl_over_tokens,
        kl_of_all_at_once,
        kl_symmetric,
        kl_first_token,
        kl_last_token,
        kl_absolute,
        kl_squared,
        kl_temperature,
        kl_each_token,
        kl_nan_to_zero,
    ],
    "7.3": [
        spend_even,
        spend_total,
        spend_first,
        spend_too_many,
        spend_gain_so_far,
        spend_from_zero,
        spend_ratio,
        spend_present_cost,
        spend_first_step_decides,
        spend_dearest,
        spend_counts_the_start,
        spend_one_short,
        spend_runs_over,
        spend_pops,
        spend_total_cost,
        spend_rounded,
    ],
    "7.5": [
        recover_unsolved,
        recover_untrained,
        recover_dense_gradient,
        recover_masked_at_the_end,
        recover_magnitude,
        recover_highest,
        recover_over_the_matrix,
        recover_sum,
        recover_uphill,
        recover_text,
        recover_squares,
        recover_one_step_more,
        recover_dense,
        recover_backward_divergence,
    ],
}
