"""Notebook 07: solutions written differently, and the mistakes that learners make."""

import itertools

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


RIGHT = {"7.1": [refit_add, refit_lstsq], "7.2": [kl_torch, kl_loop, kl_entropy], "7.3": [spend_sort, spend_all]}
WRONG = {
    "7.1": [refit_not, refit_dense, refit_part_of_inverse, refit_difference, refit_sign, refit_diagonal],
    "7.2": [kl_reversed, kl_sum, kl_mean_of_all, kl_cross_entropy, kl_sign, kl_overflow, kl_underflow, kl_logits],
    "7.3": [spend_even, spend_total, spend_first, spend_too_many],
}
