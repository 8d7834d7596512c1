"""Notebook 06: solutions written differently, and the mistakes that learners make."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import torch

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
        low, high = value - error, value + error
        if (high < limit) if up else (low > limit):
            return "no-go"
        if (low < limit) if up else (high > limit):
            answer = "open"
    return answer


def rule_numpy(values, errors, limits, at_least):
    sign = np.where(at_least, 1, -1)
    margin = sign * (np.array(values) - np.array(limits))
    width = np.array(errors)
    return "no-go" if (margin + width < 0).any() else "go" if (margin - width >= 0).all() else "open"


def rule_without_errors(values, errors, limits, at_least):
    return rule_loop(values, [0] * len(errors), limits, at_least)


def rule_half_of_it(values, errors, limits, at_least):
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
    margin, width = sign * (np.array(values) - np.array(limits)), np.array(errors)
    return "no-go" if (margin + width < 0).any() else "go" if (margin - width > 0).all() else "open"


def rule_edge_fails(values, errors, limits, at_least):
    sign = np.where(at_least, 1, -1)
    margin, width = sign * (np.array(values) - np.array(limits)), np.array(errors)
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


def bytes_only_e4m3_has_scales(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] + (4 * a if dtype == "float8_e4m3fn" else 0) for a, b in shapes)


def bytes_of_different_shapes(shapes, dtype):
    return bytes_loop(set(shapes), dtype)


def bytes_two_for_a_scale(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] + (2 * a if "float8" in dtype else 0) for a, b in shapes)


def bytes_a_scale_of_one_byte(shapes, dtype):
    return sum(a * b * WIDTHS[dtype] + (a if "float8" in dtype else 0) for a, b in shapes)


def bytes_bfloat16_is_four(shapes, dtype):
    return sum(
        a * b * (4 if dtype == "bfloat16" else WIDTHS[dtype]) + (4 * a if "float8" in dtype else 0) for a, b in shapes
    )


def bytes_in_int32(shapes, dtype):
    with np.errstate(over="ignore"):
        total = np.int32(0)
        for a, b in shapes:
            total = np.int32(
                int(total + np.int64(a) * b * WIDTHS[dtype] + (4 * a if "float8" in dtype else 0)) & 0x7FFFFFFF
            )
    return int(total)


def bytes_megabytes(shapes, dtype):
    return bytes_numpy(shapes, dtype) / 1e6


def bytes_of_the_count(shapes, dtype):
    return sum(a * b for a, b in shapes)


def bytes_squares(shapes, dtype):
    return sum(a * a * WIDTHS[dtype] + (4 * a if "float8" in dtype else 0) for a, b in shapes)


def bytes_last_layer_twice(shapes, dtype):
    return bytes_numpy(shapes + shapes[-1:], dtype)


def bytes_by_torch(shapes, dtype):
    width = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    out, into = torch.tensor(shapes).unbind(1)
    return (out * into * width).sum() + (4 * out.sum() if width == 1 else 0)


def error_two_errors(dense, hits):
    r, error = error_numpy(dense, hits)
    return r, 2 * error


def error_clamped(dense, hits):
    r, error = error_numpy(dense, hits)
    return min(r, 1.0), error


def error_over_hits(dense, hits):
    r, error = error_numpy(dense, hits)
    return r, error * (len(dense) / dense.sum().item()) ** 0.5


def error_correction_two(dense, hits):
    r, error = error_numpy(dense, hits)
    return r, error * (len(dense) / (len(dense) - 2)) ** 0.5


def error_residual_of_hits(dense, hits):
    d, h = dense.double(), hits.double()
    r = h.sum() / d.sum()
    return r, (d - r * h).std() / d.mean() / len(d) ** 0.5


def error_r_missing(dense, hits):
    d, h = dense.double(), hits.double()
    return h.sum() / d.sum(), (h - d).std() / d.mean() / len(d) ** 0.5


def error_divided_by_hits(dense, hits):
    d, h = dense.double(), hits.double()
    r = h.sum() / d.sum()
    return r, (h - r * d).std() / h.mean().clamp_min(0.1) / len(d) ** 0.5


def error_mean_of_abs(dense, hits):
    d, h = dense.double(), hits.double()
    r = h.sum() / d.sum()
    return r, (h - r * d).abs().mean() / d.mean() / len(d) ** 0.5


def error_first(dense, hits):
    return error_numpy(dense, hits)[::-1]


def error_three_digits(dense, hits):
    return tuple(round(float(x), 3) for x in error_numpy(dense, hits))


def error_agreement(dense, hits):
    error = error_numpy(dense, hits)[1]
    return (dense & hits).double().sum() / dense.sum(), error


def error_unbiased_agreement(dense, hits):
    error = error_numpy(dense, hits)[1]
    return (dense == hits).double().mean(), error


def error_loop(dense, hits):
    d, h = [int(x) for x in dense], [int(x) for x in hits]
    n, r = len(d), sum(h) / sum(d)
    spread = math.sqrt(sum((b - r * a) ** 2 for a, b in zip(d, h)) / n)
    return np.array(r), torch.tensor(spread / (sum(d) / n) / math.sqrt(n))


def rule_two_of_them(values, errors, limits, at_least):
    return rule_loop(values, [2 * error for error in errors], limits, at_least)


def rule_one_sided(values, errors, limits, at_least):
    return rule_loop(values, [1.64 / 2 * error for error in errors], limits, at_least)


def rule_196(values, errors, limits, at_least):
    return rule_loop(values, [0.98 * error for error in errors], limits, at_least)


def rule_always_at_most(values, errors, limits, at_least):
    return rule_loop(values, errors, limits, [False] * len(limits))


def rule_turned(values, errors, limits, at_least):
    return rule_loop(values, errors, limits, [not up for up in at_least])


def rule_first_decides(values, errors, limits, at_least):
    return rule_loop(values[:1], errors[:1], limits[:1], at_least[:1])


def rule_last_decides(values, errors, limits, at_least):
    return rule_loop(values[-1:], errors[-1:], limits[-1:], at_least[-1:])


def rule_first_that_is_not_passed(values, errors, limits, at_least):
    for row in zip(values, errors, limits, at_least):
        word = rule_loop(*([x] for x in row))
        if word != "go":
            return word
    return "go"


def rule_open_is_go(values, errors, limits, at_least):
    word = rule_loop(values, errors, limits, at_least)
    return "no-go" if word == "no-go" else "go"


def rule_all_failed(values, errors, limits, at_least):
    words = {rule_loop(*([x] for x in row)) for row in zip(values, errors, limits, at_least)}
    return "go" if words == {"go"} else "no-go" if words == {"no-go"} else "open"


def rule_value_fails(values, errors, limits, at_least):
    words = []
    for value, error, limit, up in zip(values, errors, limits, at_least):
        margin = (value - limit) * (1 if up else -1)
        words.append("no-go" if margin < 0 else "go" if margin >= error else "open")
    return "no-go" if "no-go" in words else "open" if "open" in words else "go"


def rule_relative_errors(values, errors, limits, at_least):
    return rule_loop(values, [e * v for e, v in zip(errors, values)], limits, at_least)


def rule_close_is_equal(values, errors, limits, at_least):
    values = [
        limit if math.isclose(v, limit, rel_tol=1e-2) and not e else v for v, e, limit in zip(values, errors, limits)
    ]
    return rule_loop(values, errors, limits, at_least)


def rule_in_capitals(values, errors, limits, at_least):
    return rule_loop(values, errors, limits, at_least).upper()


def rule_by_states(values, errors, limits, at_least):
    def state(value, error, limit, up):
        ends = (value - error, value + error)
        good = [end >= limit if up else end <= limit for end in ends]
        return {2: "passed", 1: "open", 0: "failed"}[sum(good)]

    states = list(map(state, values, errors, limits, at_least))
    return np.array(["go", "open", "no-go"])[2 if "failed" in states else int("open" in states)]


def layers_by_whole_damage(damage, size, budget):
    return _greedy(sorted(damage, key=lambda n: -int(100 * damage[n])), size, budget)


def layers_by_text(damage, size, budget):
    return _greedy(sorted(damage, key=lambda n: str(damage[n]), reverse=True), size, budget)


def layers_by_name(damage, size, budget):
    return _greedy(sorted(damage), size, budget)


def layers_as_they_come(damage, size, budget):
    return _greedy(damage, size, budget)


def layers_best_total(damage, size, budget):
    names = list(damage)
    subsets = (c for k in range(len(names) + 1) for c in itertools.combinations(names, k))
    return list(max((c for c in subsets if sum(size[n] for n in c) <= budget), key=lambda c: sum(damage[n] for n in c)))


def layers_one_each_damage(damage, size, budget):
    names = {value: name for name, value in damage.items()}
    return _greedy([names[value] for value in sorted(names, reverse=True)], size, budget)


def layers_not_spared(damage, size, budget):
    spared = layers_loop(damage, size, budget)
    return [name for name in damage if name not in spared]


def layers_only_one(damage, size, budget):
    return layers_tuple(damage, size, budget)[:1]


def layers_rounded(damage, size, budget):
    return _greedy(sorted(damage, key=lambda n: -round(damage[n], 3)), size, budget)


def layers_damage_as_size(damage, size, budget):
    return _greedy(sorted(damage, key=lambda n: -size[n]), size, budget)


def layers_names_joined(damage, size, budget):
    return " ".join(layers_tuple(damage, size, budget))


def layers_take_from_the_argument(damage, size, budget):
    chosen = []
    while damage:
        name = max(damage, key=damage.get)
        del damage[name]
        if size[name] <= budget:
            chosen.append(name)
            budget -= size[name]
    return chosen


def layers_recursive(damage, size, budget):
    if not damage:
        return []
    name = max(damage, key=lambda n: damage[n])
    rest = {n: value for n, value in damage.items() if n != name}
    return (
        [name, *layers_recursive(rest, size, budget - size[name])]
        if size[name] <= budget
        else layers_recursive(rest, size, budget)
    )


def _z(tail):
    return NormalDist().inv_cdf(1 - tail)


def _verdict(dense, candidates, limit, z, order=("go", "open"), error=error_numpy, worst=True):
    """The verdict with `z` errors to each side, from the words of each candidate's texts."""
    words = {}
    for name, hits in candidates.items():
        pairs = [error(d, h) for d, h in zip(dense, hits)]
        states = [rule_loop([float(r)], [z * float(e)], [limit], [True]) for r, e in pairs]
        ranks = ("no-go", "open", "go") if worst else ("go", "open", "no-go")
        words[name] = next(word for word in ranks if word in states)
    found = [(word, name) for word in order for name in words if words[name] == word]
    return found[0] if found else ("no-go", "")


def verdict_numpy(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(dense) / 2))


def verdict_unbiased(dense, candidates, limit, confidence):
    z = math.sqrt(2) * torch.erfinv(torch.tensor(1 - (1 - confidence) / len(dense), dtype=torch.float64)).item()
    return list(_verdict(dense, candidates, limit, z, error=error_unbiased))


def verdict_each_alone(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / 2))


def verdict_one_sided(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(dense)))


def verdict_by_candidates(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(candidates) / 2))


def verdict_all_candidates_too(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(candidates) / len(dense) / 2))


def verdict_two_errors(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, 2)


def verdict_no_errors(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, 0)


def verdict_power(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence ** len(dense)) / 2))


def verdict_open_first(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(dense) / 2), order=("open", "go"))


def verdict_never_open(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(dense) / 2), order=("go",))


def verdict_first_of_both(dense, candidates, limit, confidence):
    for name, hits in candidates.items():
        word = verdict_numpy(dense, {name: hits}, limit, confidence)[0]
        if word != "no-go":
            return word, name
    return "no-go", ""


def verdict_last(dense, candidates, limit, confidence):
    return verdict_numpy(dense, dict(reversed(candidates.items())), limit, confidence)


def verdict_best_text(dense, candidates, limit, confidence):
    return _verdict(dense, candidates, limit, _z((1 - confidence) / len(dense) / 2), worst=False)


def verdict_pooled(dense, candidates, limit, confidence):
    whole = {name: hits.flatten()[None] for name, hits in candidates.items()}
    return _verdict(dense.flatten()[None], whole, limit, _z((1 - confidence) / len(dense) / 2))


def verdict_first_text(dense, candidates, limit, confidence):
    first = {name: hits[:1] for name, hits in candidates.items()}
    return _verdict(dense[:1], first, limit, _z((1 - confidence) / len(dense) / 2))


def verdict_names_the_last_of_no_go(dense, candidates, limit, confidence):
    word, name = verdict_numpy(dense, candidates, limit, confidence)
    return word, name or list(candidates)[-1]


def verdict_word_alone(dense, candidates, limit, confidence):
    return verdict_numpy(dense, candidates, limit, confidence)[0]


def verdict_of_accuracy(dense, candidates, limit, confidence):
    everything = torch.ones_like(dense)
    return _verdict(everything, candidates, limit, _z((1 - confidence) / len(dense) / 2))


RIGHT = {
    "6.1": [bytes_loop, bytes_numpy, bytes_by_torch],
    "6.3": [error_numpy, error_unbiased, error_loop],
    "6.4": [rule_loop, rule_numpy, rule_by_states],
    "6.2": [layers_loop, layers_tuple, layers_recursive],
    "6.6": [verdict_numpy, verdict_unbiased],
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
        bytes_only_e4m3_has_scales,
        bytes_of_different_shapes,
        bytes_two_for_a_scale,
        bytes_a_scale_of_one_byte,
        bytes_bfloat16_is_four,
        bytes_in_int32,
        bytes_megabytes,
        bytes_of_the_count,
        bytes_squares,
        bytes_last_layer_twice,
    ],
    "6.3": [
        error_of_accuracy,
        error_as_if_unpaired,
        error_without_root,
        error_not_over_n,
        error_of_difference,
        error_not_a_ratio,
        error_variance,
        error_two_errors,
        error_clamped,
        error_over_hits,
        error_correction_two,
        error_residual_of_hits,
        error_r_missing,
        error_divided_by_hits,
        error_mean_of_abs,
        error_first,
        error_three_digits,
        error_agreement,
        error_unbiased_agreement,
    ],
    "6.4": [
        rule_without_errors,
        rule_half_of_it,
        rule_always_at_least,
        rule_open_first,
        rule_any_pass,
        rule_open_is_no_go,
        rule_strict,
        rule_edge_fails,
        rule_two_of_them,
        rule_one_sided,
        rule_196,
        rule_always_at_most,
        rule_turned,
        rule_first_decides,
        rule_last_decides,
        rule_first_that_is_not_passed,
        rule_open_is_go,
        rule_all_failed,
        rule_value_fails,
        rule_relative_errors,
        rule_close_is_equal,
        rule_in_capitals,
    ],
    "6.2": [
        layers_least_damaged,
        layers_per_weight,
        layers_smallest,
        layers_stop,
        layers_over_budget,
        layers_never_subtracted,
        layers_strict,
        layers_by_whole_damage,
        layers_by_text,
        layers_by_name,
        layers_as_they_come,
        layers_best_total,
        layers_one_each_damage,
        layers_not_spared,
        layers_only_one,
        layers_rounded,
        layers_damage_as_size,
        layers_names_joined,
        layers_take_from_the_argument,
    ],
    "6.6": [
        verdict_each_alone,
        verdict_one_sided,
        verdict_by_candidates,
        verdict_all_candidates_too,
        verdict_two_errors,
        verdict_no_errors,
        verdict_power,
        verdict_open_first,
        verdict_never_open,
        verdict_first_of_both,
        verdict_last,
        verdict_best_text,
        verdict_pooled,
        verdict_first_text,
        verdict_names_the_last_of_no_go,
        verdict_word_alone,
        verdict_of_accuracy,
    ],
}
