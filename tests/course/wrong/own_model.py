"""Notebook 06: solutions written differently, and the mistakes that learners make."""

import math

import numpy as np

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


def bytes_loop(shapes, dtype):
    total = 0
    for out, into in shapes:
        for _ in range(out):
            total += into * WIDTHS[dtype] + (4 if "float8" in dtype else 0)
    return total


def bytes_numpy(shapes, dtype):
    shapes = np.array(shapes)
    return np.float64((shapes.prod(1) * WIDTHS[dtype]).sum() + (4 * shapes[:, 0].sum() if "8_" in dtype else 0))


def bytes_no_scales(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] for a, b in shapes)


def bytes_scale_per_column(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] + (4 * b if "float8" in dtype else 0) for a, b in shapes)


def bytes_scale_per_layer(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] + (4 if "float8" in dtype else 0) for a, b in shapes)


def bytes_always_scales(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] + 4 * a for a, b in shapes)


def bytes_bits(shapes, dtype):
    return 8 * bytes_loop(shapes, dtype)


def bytes_first_layer(shapes, dtype):
    return bytes_loop(shapes[:1], dtype)


def bytes_sums(shapes, dtype):
    return sum((a + b) * WIDTHS[dtype] for a, b in shapes)


def bytes_half_is_four(shapes, dtype):
    return sum(a * b * (1 if "8_" in dtype else 4) + (4 * a if "8_" in dtype else 0) for a, b in shapes)


def error_numpy(dense, hits):
    d, h = dense.numpy().astype(float), hits.numpy().astype(float)
    r = h.sum() / d.sum()
    return np.array([r, (h - r * d).std() / d.mean() / np.sqrt(len(d))])


def error_unbiased(dense, hits):
    d, h = dense.float(), hits.float()
    r = h.mean() / d.mean()
    return [r, (h - r * d).std() / d.mean() / len(d) ** 0.5]


def error_of_accuracy(dense, hits):
    p = hits.float().mean()
    return hits.sum() / dense.sum(), (p * (1 - p) / len(hits)) ** 0.5


def error_as_if_unpaired(dense, hits):
    p, q, n = hits.float().mean().item(), dense.float().mean().item(), len(hits)
    return p / q, math.sqrt(p * (1 - p) + (p / q) ** 2 * q * (1 - q)) / (q * math.sqrt(n))


def error_without_root(dense, hits):
    r, error = error_unbiased(dense, hits)
    return r, error / len(hits) ** 0.5


def error_not_over_n(dense, hits):
    r, error = error_unbiased(dense, hits)
    return r, error * len(hits) ** 0.5


def error_of_difference(dense, hits):
    d, h = dense.float(), hits.float()
    return h.mean() / d.mean(), (h - d).std() / len(d) ** 0.5


def error_not_a_ratio(dense, hits):
    d, h = dense.float(), hits.float()
    r = h.mean() / d.mean()
    return r, (h - r * d).std(correction=0) / len(d) ** 0.5


def error_variance(dense, hits):
    d, h = dense.float(), hits.float()
    r = h.mean() / d.mean()
    return r, (h - r * d).var(correction=0) / d.mean() / len(d) ** 0.5


def rule_loop(values, errors, limits, at_least):
    answer = "go"
    for value, error, limit, up in zip(values, errors, limits, at_least):
        low, high = value - 2 * error, value + 2 * error
        if (high < limit) if up else (low > limit):
            return "no-go"
        if (low < limit) if up else (high > limit):
            answer = "open"
    return answer


def rule_numpy(values, errors, limits, at_least):
    sign = np.where(at_least, 1, -1)
    margin = sign * (np.array(values) - np.array(limits))
    width = 2 * np.array(errors)
    return "no-go" if (margin + width < 0).any() else "go" if (margin - width >= 0).all() else "open"


def rule_without_errors(values, errors, limits, at_least):
    return rule_loop(values, [0] * len(errors), limits, at_least)


def rule_one_error(values, errors, limits, at_least):
    return rule_loop(values, [error / 2 for error in errors], limits, at_least)


def rule_always_at_least(values, errors, limits, at_least):
    return rule_loop(values, errors, limits, [True] * len(limits))


def rule_open_first(values, errors, limits, at_least):
    states = [rule_loop([v], [e], [m], [u]) for v, e, m, u in zip(values, errors, limits, at_least)]
    return "open" if "open" in states else "no-go" if "no-go" in states else "go"


def rule_any_pass(values, errors, limits, at_least):
    states = [rule_loop([v], [e], [m], [u]) for v, e, m, u in zip(values, errors, limits, at_least)]
    return "go" if "go" in states else "no-go" if "no-go" in states else "open"


def rule_open_is_no_go(values, errors, limits, at_least):
    return "go" if rule_loop(values, errors, limits, at_least) == "go" else "no-go"


def rule_strict(values, errors, limits, at_least):
    sign = np.where(at_least, 1, -1)
    margin, width = sign * (np.array(values) - np.array(limits)), 2 * np.array(errors)
    return "no-go" if (margin + width < 0).any() else "go" if (margin - width > 0).all() else "open"


def rule_edge_fails(values, errors, limits, at_least):
    sign = np.where(at_least, 1, -1)
    margin, width = sign * (np.array(values) - np.array(limits)), 2 * np.array(errors)
    return "no-go" if (margin + width <= 0).any() else "go" if (margin - width >= 0).all() else "open"


def layers_loop(damage, size, budget):
    left, chosen, rest = budget, set(), dict(damage)
    while rest:
        name = max(rest, key=lambda n: rest[n])
        del rest[name]
        if size[name] <= left:
            left -= size[name]
            chosen.add(name)
    return chosen


def layers_tuple(damage, size, budget):
    used, chosen = 0, ()
    for _, name in sorted(((-value, name) for name, value in damage.items())):
        if used + size[name] <= budget:
            used, chosen = used + size[name], (*chosen, name)
    return chosen


def _greedy(order, size, budget):
    chosen = []
    for name in order:
        if size[name] <= budget:
            chosen.append(name)
            budget -= size[name]
    return chosen


def layers_least_damaged(damage, size, budget):
    return _greedy(sorted(damage, key=damage.get), size, budget)


def layers_per_weight(damage, size, budget):
    return _greedy(sorted(damage, key=lambda n: -damage[n] / size[n]), size, budget)


def layers_smallest(damage, size, budget):
    return _greedy(sorted(damage, key=lambda n: size[n]), size, budget)


def layers_stop(damage, size, budget):
    chosen = []
    for name in sorted(damage, key=damage.get, reverse=True):
        if size[name] > budget:
            break
        chosen.append(name)
        budget -= size[name]
    return chosen


def layers_over_budget(damage, size, budget):
    chosen = []
    for name in sorted(damage, key=damage.get, reverse=True):
        if budget > 0:
            chosen.append(name)
            budget -= size[name]
    return chosen


def layers_never_subtracted(damage, size, budget):
    return [name for name in sorted(damage, key=damage.get, reverse=True) if size[name] <= budget]


def layers_strict(damage, size, budget):
    return _greedy(sorted(damage, key=damage.get, reverse=True), size, budget - 1)


RIGHT = {
    "6.1": [bytes_loop, bytes_numpy],
    "6.3": [error_numpy, error_unbiased],
    "6.4": [rule_loop, rule_numpy],
    "6.2": [layers_loop, layers_tuple],
}
WRONG = {
    "6.1": [
        bytes_no_scales,
        bytes_scale_per_column,
        bytes_scale_per_layer,
        bytes_always_scales,
        bytes_bits,
        bytes_first_layer,
        bytes_sums,
        bytes_half_is_four,
    ],
    "6.3": [
        error_of_accuracy,
        error_as_if_unpaired,
        error_without_root,
        error_not_over_n,
        error_of_difference,
        error_not_a_ratio,
        error_variance,
    ],
    "6.4": [
        rule_without_errors,
        rule_one_error,
        rule_always_at_least,
        rule_open_first,
        rule_any_pass,
        rule_open_is_no_go,
        rule_strict,
        rule_edge_fails,
    ],
    "6.2": [
        layers_least_damaged,
        layers_per_weight,
        layers_smallest,
        layers_stop,
        layers_over_budget,
        layers_never_subtracted,
        layers_strict,
    ],
}
