"""Known right and wrong answers to the exercises of notebook 02."""

import math

import numpy as np
import torch

# 2.1 ----------------------------------------------------------------------------------------------------------------


def mask_by_loop(L, n, m):
    mask = [[False] * L.shape[1] for _ in range(L.shape[0])]
    for i, row in enumerate(L.tolist()):
        for start in range(0, len(row), m):
            for j in sorted(range(start, start + m), key=lambda j: row[j])[m - n :]:  # ties: the right one stays
                mask[i][j] = True
    return mask


def mask_by_topk(L, n, m):
    groups = L.reshape(L.shape[0], -1, m)
    return torch.zeros_like(groups).scatter(2, groups.topk(n, dim=2).indices, 1.0).reshape(L.shape)


def mask_by_numpy(L, n, m):
    groups = L.numpy().reshape(-1, m)
    return (np.argsort(np.argsort(-groups, axis=1, kind="stable"), axis=1) < n).reshape(L.shape).astype(np.uint8)


def mask_prunes_n(L, n, m):
    groups = L.unflatten(1, (-1, m))
    return torch.ones_like(groups).scatter(2, groups.topk(n, dim=2, largest=False).indices, 0.0).flatten(1).bool()


def mask_keeps_the_lowest(L, n, m):
    groups = L.unflatten(1, (-1, m))
    return torch.zeros_like(groups).scatter(2, groups.topk(n, dim=2, largest=False).indices, 1.0).flatten(1).bool()


def mask_keeps_all_ties(L, n, m):
    groups = L.unflatten(1, (-1, m))
    return (groups >= groups.topk(n, dim=2).values[..., -1:]).flatten(1)


def mask_drops_all_ties(L, n, m):
    groups = L.unflatten(1, (-1, m))
    lowest = groups.sort(dim=2).values
    return (groups > lowest[..., m - n - 1 : m - n]).flatten(1) if n < m else torch.ones_like(L).bool()


def mask_groups_down_the_columns(L, n, m):
    groups = L.T.reshape(-1, m)
    kept = torch.zeros_like(groups).scatter(1, groups.topk(n, dim=1).indices, 1.0)
    return kept.reshape(L.T.shape).T.bool()


def mask_strided_groups(L, n, m):
    groups = L.reshape(L.shape[0], m, -1).transpose(1, 2)
    kept = torch.zeros_like(groups).scatter(2, groups.topk(n, dim=2).indices, 1.0)
    return kept.transpose(1, 2).reshape(L.shape).bool()


def mask_of_the_whole_row(L, n, m):
    kept = L.shape[1] * n // m
    return torch.zeros_like(L).scatter(1, L.topk(kept, dim=1).indices, 1.0).bool()


def mask_always_two_of_four(L, n, m):
    return mask_by_topk(L, 2, 4).bool()


def mask_leaves_groups(L, n, m):
    return mask_by_topk(L, n, m).unflatten(1, (-1, m)).bool()


# 2.2 ----------------------------------------------------------------------------------------------------------------


def pack_by_loop(W):
    values, places = [], []
    for row in W.tolist():
        values.append([])
        places.append([])
        for start in range(0, len(row), 4):
            group = row[start : start + 4]
            found = [p for p in range(4) if group[p] != 0]
            found = sorted(found + [p for p in range(4) if group[p] == 0][: 2 - len(found)])
            values[-1] += [group[p] for p in found]
            places[-1] += found
    return values, places


def pack_by_topk(W):
    groups = W.reshape(len(W), -1, 4)
    places = groups.abs().topk(2, dim=2).indices.sort(dim=2).values
    return groups.gather(2, places).reshape(len(W), -1).double(), places.reshape(len(W), -1).to(torch.uint8)


def pack_without_zeros(W):
    return W[W != 0].view(len(W), -1), (W != 0).nonzero()[:, 1].view(len(W), -1) % 4


def pack_columns_of_the_row(W):
    values, places = pack_by_topk(W)
    return values, places + 4 * (torch.arange(places.shape[1]) // 2)


def pack_in_order_of_size(W):
    groups = W.unflatten(1, (-1, 4))
    places = groups.abs().topk(2, dim=2).indices
    return groups.gather(2, places).flatten(1), places.flatten(1)


def pack_without_sign(W):
    groups = W.unflatten(1, (-1, 4))
    top = groups.topk(2, dim=2).indices.sort(dim=2).values
    return groups.gather(2, top).flatten(1), top.flatten(1)


def pack_absolute_values(W):
    values, places = pack_by_topk(W)
    return values.abs(), places


def pack_from_one(W):
    values, places = pack_by_topk(W)
    return values, places + 1


def pack_first_place_twice(W):
    groups = W.unflatten(1, (-1, 4))
    first = (groups != 0).float().argmax(-1)
    last = 3 - (groups.flip(-1) != 0).float().argmax(-1)
    last = torch.where((groups != 0).any(-1), last, first)
    places = torch.stack([first, last], -1)
    return groups.gather(2, places).flatten(1), places.flatten(1)


def pack_swapped(W):
    return pack_by_topk(W)[::-1]


# 2.4 ----------------------------------------------------------------------------------------------------------------


def remove_by_cat(W1, b1, W2, j):
    return (
        torch.cat([W1[:j], W1[j + 1 :]]),
        torch.cat([b1[:j], b1[j + 1 :]]),
        torch.cat([W2[:, :j], W2[:, j + 1 :]], dim=1),
    )


def remove_by_numpy(W1, b1, W2, j):
    return [np.delete(W1.numpy(), j, 0), np.delete(b1.numpy(), j), np.delete(W2.numpy(), j, 1)]


def remove_zeroes_only(W1, b1, W2, j):
    W2 = W2.clone()
    W2[:, j] = 0
    return W1, b1, W2


def remove_forgets_the_bias(W1, b1, W2, j):
    keep = torch.arange(len(b1)) != j
    return W1[keep], b1, W2[:, keep]


def remove_row_of_both(W1, b1, W2, j):
    keep = torch.arange(len(b1)) != j
    rows = torch.arange(len(W2)) != j
    return W1[keep], b1[keep], W2[rows]


def remove_counts_from_one(W1, b1, W2, j):
    keep = torch.arange(len(b1)) != max(j - 1, 0)
    return W1[keep], b1[keep], W2[:, keep]


def remove_the_last(W1, b1, W2, j):
    return W1[:-1], b1[:-1], W2[:, :-1]


def remove_everything_before(W1, b1, W2, j):
    return W1[j + 1 :], b1[j + 1 :], W2[:, j + 1 :]


def remove_keeps_only_j(W1, b1, W2, j):
    return W1[j : j + 1], b1[j : j + 1], W2[:, j : j + 1]


def remove_moves_the_last_into_the_gap(W1, b1, W2, j):
    order = list(range(len(b1) - 1))
    if j < len(order):
        order[j] = len(b1) - 1
    return W1[order], b1[order], W2[:, :-1]


# 2.3 ----------------------------------------------------------------------------------------------------------------


def bytes_by_bit_length(rows, columns, n, m, width):
    kept = rows * (columns // m) * n
    bits = kept * (m - 1).bit_length()
    return kept * width + (bits + 7) // 8


def bytes_as_tensor(rows, columns, n, m, width):
    return torch.tensor(float(bytes_by_bit_length(rows, columns, n, m, width)))


def bytes_values_only(rows, columns, n, m, width):
    return rows * columns * n // m * width


def bytes_bits_as_bytes(rows, columns, n, m, width):
    kept = rows * columns * n // m
    return kept * width + kept * math.ceil(math.log2(m))


def bytes_place_of_all(rows, columns, n, m, width):
    return rows * columns * n // m * width + math.ceil(rows * columns * math.ceil(math.log2(m)) / 8)


def bytes_dense(rows, columns, n, m, width):
    return rows * columns * width


def bytes_one_bit_a_weight(rows, columns, n, m, width):
    return rows * columns * n // m * width + math.ceil(rows * columns / 8)


def bytes_always_two_bits(rows, columns, n, m, width):
    kept = rows * columns * n // m
    return kept * width + math.ceil(kept * 2 / 8)


def bytes_log2_rounded_down(rows, columns, n, m, width):
    kept = rows * columns * n // m
    return kept * width + math.ceil(kept * int(math.log2(m)) / 8)


def bytes_rounded_down(rows, columns, n, m, width):
    kept = rows * columns * n // m
    return kept * width + kept * math.ceil(math.log2(m)) // 8


def bytes_rounded_per_row(rows, columns, n, m, width):
    kept = columns * n // m
    return rows * (kept * width + math.ceil(kept * math.ceil(math.log2(m)) / 8))


def mask_of_magnitudes(L, n, m):
    return mask_by_topk(L.abs(), n, m)


def mask_in_half(L, n, m):
    return mask_by_topk(L.half().float(), n, m)


def mask_truncated(L, n, m):
    return mask_by_topk(L.int().float(), n, m)


def mask_of_squares(L, n, m):
    return mask_by_topk(L.square(), n, m)


def mask_with_noise(L, n, m):
    noise = torch.rand(L.shape, generator=torch.Generator().manual_seed(1)) * 1e-6
    return mask_by_topk(L + noise, n, m)


def mask_first_group(L, n, m):
    return mask_by_topk(L[:, :m], n, m).repeat(1, L.shape[1] // m)


def mask_one_pattern_a_column(L, n, m):
    return mask_by_topk(L.sum(0, keepdim=True), n, m).expand(L.shape)


def mask_only_positive(L, n, m):
    return mask_by_topk(L, n, m).bool() & (L > 0)


def mask_taken_is_zero(L, n, m):
    groups, keep = L.unflatten(1, (-1, m)).clone(), torch.zeros_like(L).unflatten(1, (-1, m)).bool()
    for _ in range(n):
        best = groups.argmax(-1, keepdim=True)
        keep.scatter_(-1, best, True)
        groups.scatter_(-1, best, 0.0)
    return keep.flatten(1)


def mask_first_n(L, n, m):
    return torch.arange(L.shape[1]).remainder(m).lt(n).expand(L.shape)


def mask_places(L, n, m):
    return L.unflatten(1, (-1, m)).topk(n, dim=2).indices.flatten(1)


def mask_by_sorted_places(L, n, m):
    return (L.unflatten(1, (-1, m)).argsort(dim=2, descending=True) < n).flatten(1)


def mask_taken_is_minus_infinity(L, n, m):
    groups = L.double().reshape(-1, m).clone()
    keep = np.zeros(groups.shape, dtype=bool)
    for _ in range(n):
        best = groups.argmax(1)
        keep[np.arange(len(groups)), best.numpy()] = True
        groups[torch.arange(len(groups)), best] = -torch.inf
    return keep.reshape(L.shape)


def pack_by_squares(W):
    groups = W.reshape(len(W), -1, 4)
    places = groups.square().topk(2, dim=2).indices.sort(dim=2).values
    return groups.gather(2, places).flatten(1), places.flatten(1)


def pack_in_half(W):
    values, places = pack_by_topk(W)
    return values.half(), places


def pack_whole_numbers(W):
    values, places = pack_by_topk(W)
    return values.int(), places


def pack_first_two(W):
    groups = W.unflatten(1, (-1, 4))
    places = (groups == 0).int().argsort(dim=2)[..., :2]
    return groups.gather(2, places).flatten(1), places.flatten(1)


def pack_pads_with_three(W):
    values, places = [], []
    for row in W.tolist():
        v, p = [], []
        for start in range(0, len(row), 4):
            found = [k for k in range(4) if row[start + k] != 0]
            found += [3] * (2 - len(found))
            p += found
            v += [row[start + k] for k in found]
        values.append(v)
        places.append(p)
    return values, places


def pack_values_of_other_places(W):
    values, places = pack_by_topk(W)
    return values, places.view(len(W), -1, 2).flip(2).sort(2).values.flatten(1).flip(1)


def pack_flat(W):
    values, places = pack_by_topk(W)
    return values.flatten(), places.flatten()


def pack_only_large(W):
    return pack_by_topk(torch.where(W.abs() > 1e-6, W, 0.0))


def pack_by_groups(W):
    values, places = pack_by_topk(W)
    return values.view(len(W), -1, 2), places.view(len(W), -1, 2)


def pack_numpy(W):
    groups = W.numpy().reshape(len(W), -1, 4)
    places = np.sort(np.argsort(groups == 0, axis=2, kind="stable")[..., :2], axis=2)
    return {
        "values": np.take_along_axis(groups, places, 2).reshape(len(W), -1),
        "places": places.reshape(len(W), -1) * 1.0,
    }


def remove_by_bias(W1, b1, W2, j):
    keep = b1 != b1[j]
    return W1[keep], b1[keep], W2[:, keep]


def remove_equal_rows(W1, b1, W2, j):
    keep = (W1[j] != W1).any(1) | (b1 != b1[j])
    return W1[keep], b1[keep], W2[:, keep]


def remove_column_of_both(W1, b1, W2, j):
    keep = torch.arange(len(b1)) != j
    return W1[:, torch.arange(W1.shape[1]) != j], b1[keep], W2[:, keep]


def remove_counts_from_the_end(W1, b1, W2, j):
    return remove_by_cat(W1, b1, W2, len(b1) - 1 - j)


def remove_in_half(W1, b1, W2, j):
    return [part.half() for part in remove_by_cat(W1, b1, W2, j)]


def remove_whole_numbers(W1, b1, W2, j):
    return [part.int() for part in remove_by_cat(W1, b1, W2, j)]


def remove_gives_the_bias_on(W1, b1, W2, j):
    W1, b, W2 = remove_by_cat(W1, b1, W2, j)
    return W1, b + b1[j] / max(1, len(b)), W2


def remove_rescales(W1, b1, W2, j):
    W1, b, W2 = remove_by_cat(W1, b1, W2, j)
    return W1, b, W2 * len(b1) / len(b)


def remove_turned(W1, b1, W2, j):
    W1, b, W2 = remove_by_cat(W1, b1, W2, j)
    return W1, b, W2.T


def remove_order_of_results(W1, b1, W2, j):
    W1, b, W2 = remove_by_cat(W1, b1, W2, j)
    return W1, W2, b


def remove_by_lists(W1, b1, W2, j):
    rows, bias = W1.tolist(), b1.tolist()
    del rows[j], bias[j]
    return rows, bias, [row[:j] + row[j + 1 :] for row in W2.tolist()]


def remove_by_selecting(W1, b1, W2, j):
    index = torch.tensor([i for i in range(len(b1)) if i != j])
    return W1.double().index_select(0, index), b1.index_select(0, index), W2.index_select(1, index)


def bytes_of_one_row(rows, columns, n, m, width):
    return bytes_by_bit_length(1, columns, n, m, width)


def bytes_both_rounded_down(rows, columns, n, m, width):
    return int(rows * columns * n / m * (width + math.log2(m) / 8))


def bytes_bits_of_m(rows, columns, n, m, width):
    kept = rows * columns * n // m
    return kept * width + math.ceil(kept * m.bit_length() / 8)


def bytes_bits_not_rounded(rows, columns, n, m, width):
    kept = rows * columns * n // m
    return kept * width + math.ceil(kept * math.log2(m) / 8)


def bytes_a_byte_for_each_group(rows, columns, n, m, width):
    groups = rows * columns // m
    return groups * n * width + groups * math.ceil(n * math.ceil(math.log2(m)) / 8)


def bytes_bitmap(rows, columns, n, m, width):
    return rows * columns * n // m * width + math.ceil(rows * columns / 8)


def bytes_always_bfloat16(rows, columns, n, m, width):
    return bytes_by_bit_length(rows, columns, n, m, 2)


def bytes_pruned(rows, columns, n, m, width):
    return bytes_by_bit_length(rows, columns, m - n, m, width)


def bytes_no_places_if_dense(rows, columns, n, m, width):
    return rows * columns * width if n == m else bytes_by_bit_length(rows, columns, n, m, width)


def bytes_in_bits(rows, columns, n, m, width):
    return 8 * bytes_by_bit_length(rows, columns, n, m, width)


def bytes_by_groups(rows, columns, n, m, width):
    groups = sum(columns // m for _ in range(rows))
    bits = next(b for b in range(20) if 2**b >= m)
    return np.int64(groups * n * width - (-groups * n * bits // 8))


# 2.5 ----------------------------------------------------------------------------------------------------------------


def _hidden(gate, up, x):
    return torch.nn.functional.silu(x @ gate.T) * (x @ up.T)


def gated_by_index(gate, up, down, keep, x):
    stay = keep.nonzero().flatten()
    small = gate[stay], up[stay], down[:, stay]
    wide = _hidden(gate, up, x)
    wide[:, ~keep] = 0
    return *small, (wide @ down.T - _hidden(small[0], small[1], x) @ small[2].T).abs().max()


def gated_by_numpy(gate, up, down, keep, x):
    stay = np.flatnonzero(keep.numpy())
    return gate.numpy()[stay], up.numpy()[stay], down.numpy()[:, stay], 0.0


def gated_zeroes_only(gate, up, down, keep, x):
    return gate, up, down * keep, 0.0


def gated_forgets_up(gate, up, down, keep, x):
    return gate[keep], up, down[:, keep], 0.0


def gated_removes_what_stays(gate, up, down, keep, x):
    return gate[~keep], up[~keep], down[:, ~keep], 0.0


def gated_keeps_the_first(gate, up, down, keep, x):
    count = int(keep.sum())
    return gate[:count], up[:count], down[:, :count], 0.0


def gated_compares_with_the_whole(gate, up, down, keep, x):
    small = gate[keep], up[keep], down[:, keep]
    return *small, (_hidden(gate, up, x) @ down.T - _hidden(*small[:2], x) @ small[2].T).abs().max().item()


def gated_without_the_difference(gate, up, down, keep, x):
    return gate[keep], up[keep], down[:, keep]


# 2.8 ----------------------------------------------------------------------------------------------------------------


def _count(gate, share, multiple):
    return max(int(len(gate) * (1 - share)) // multiple * multiple, multiple)


def _smaller(scores, count, gate, up, down):
    keep = scores.topk(count).indices.sort().values
    return gate[keep], up[keep], down[:, keep]


def smaller_by_mask(gate, up, down, x, share, multiple):
    scores = (_hidden(gate, up, x) ** 2).sum(0) * (down**2).sum(0)  # a sum ranks as a mean does
    order = sorted(range(len(gate)), key=lambda j: -float(scores[j]))[: _count(gate, share, multiple)]
    keep = torch.tensor([j in order for j in range(len(gate))])
    return gate[keep], up[keep], down[:, keep]


def smaller_without_energy(gate, up, down, x, share, multiple):
    return _smaller(down.square().sum(0), _count(gate, share, multiple), gate, up, down)


def smaller_by_energy_alone(gate, up, down, x, share, multiple):
    return _smaller(_hidden(gate, up, x).square().mean(0), _count(gate, share, multiple), gate, up, down)


def smaller_without_the_gate(gate, up, down, x, share, multiple):
    scores = (x @ up.T).square().mean(0) * down.square().sum(0)
    return _smaller(scores, _count(gate, share, multiple), gate, up, down)


def smaller_keeps_the_least(gate, up, down, x, share, multiple):
    scores = _hidden(gate, up, x).square().mean(0) * down.square().sum(0)
    return _smaller(-scores, _count(gate, share, multiple), gate, up, down)


def smaller_in_order_of_score(gate, up, down, x, share, multiple):
    scores = _hidden(gate, up, x).square().mean(0) * down.square().sum(0)
    keep = scores.topk(_count(gate, share, multiple)).indices
    return gate[keep], up[keep], down[:, keep]


def smaller_forgets_the_multiple(gate, up, down, x, share, multiple):
    scores = _hidden(gate, up, x).square().mean(0) * down.square().sum(0)
    return _smaller(scores, max(int(len(gate) * (1 - share)), 1), gate, up, down)


def smaller_rounds_up(gate, up, down, x, share, multiple):
    scores = _hidden(gate, up, x).square().mean(0) * down.square().sum(0)
    return _smaller(scores, math.ceil(len(gate) * (1 - share) / multiple) * multiple, gate, up, down)


def smaller_zeroes_only(gate, up, down, x, share, multiple):
    scores = _hidden(gate, up, x).square().mean(0) * down.square().sum(0)
    keep = torch.zeros(len(gate)).index_fill(0, scores.topk(_count(gate, share, multiple)).indices, 1.0)
    return gate, up, down * keep


RIGHT = {
    "2.1": [mask_by_loop, mask_by_topk, mask_by_numpy, mask_taken_is_minus_infinity],
    "2.2": [pack_by_loop, pack_by_topk, pack_numpy],
    "2.4": [remove_by_cat, remove_by_numpy, remove_by_lists, remove_by_selecting],
    "2.3": [bytes_by_bit_length, bytes_as_tensor, bytes_by_groups],
    "2.5": [gated_by_index, gated_by_numpy],
    "2.8": [smaller_by_mask],
}
WRONG = {
    "2.1": [
        mask_prunes_n,
        mask_keeps_the_lowest,
        mask_keeps_all_ties,
        mask_drops_all_ties,
        mask_groups_down_the_columns,
        mask_strided_groups,
        mask_of_the_whole_row,
        mask_always_two_of_four,
        mask_leaves_groups,
        mask_of_magnitudes,
        mask_in_half,
        mask_truncated,
        mask_of_squares,
        mask_with_noise,
        mask_first_group,
        mask_one_pattern_a_column,
        mask_only_positive,
        mask_taken_is_zero,
        mask_first_n,
        mask_places,
        mask_by_sorted_places,
    ],
    "2.2": [
        pack_without_zeros,
        pack_columns_of_the_row,
        pack_in_order_of_size,
        pack_without_sign,
        pack_absolute_values,
        pack_from_one,
        pack_first_place_twice,
        pack_swapped,
        pack_by_squares,
        pack_in_half,
        pack_whole_numbers,
        pack_first_two,
        pack_pads_with_three,
        pack_values_of_other_places,
        pack_flat,
        pack_only_large,
        pack_by_groups,
    ],
    "2.4": [
        remove_zeroes_only,
        remove_forgets_the_bias,
        remove_row_of_both,
        remove_counts_from_one,
        remove_the_last,
        remove_everything_before,
        remove_keeps_only_j,
        remove_moves_the_last_into_the_gap,
        remove_by_bias,
        remove_equal_rows,
        remove_column_of_both,
        remove_counts_from_the_end,
        remove_in_half,
        remove_whole_numbers,
        remove_gives_the_bias_on,
        remove_rescales,
        remove_turned,
        remove_order_of_results,
    ],
    "2.3": [
        bytes_values_only,
        bytes_bits_as_bytes,
        bytes_place_of_all,
        bytes_dense,
        bytes_one_bit_a_weight,
        bytes_always_two_bits,
        bytes_log2_rounded_down,
        bytes_rounded_down,
        bytes_rounded_per_row,
        bytes_of_one_row,
        bytes_both_rounded_down,
        bytes_bits_of_m,
        bytes_bits_not_rounded,
        bytes_a_byte_for_each_group,
        bytes_bitmap,
        bytes_always_bfloat16,
        bytes_pruned,
        bytes_no_places_if_dense,
        bytes_in_bits,
    ],
    "2.5": [
        gated_zeroes_only,
        gated_forgets_up,
        gated_removes_what_stays,
        gated_keeps_the_first,
        gated_compares_with_the_whole,
        gated_without_the_difference,
    ],
    "2.8": [
        smaller_without_energy,
        smaller_by_energy_alone,
        smaller_without_the_gate,
        smaller_keeps_the_least,
        smaller_in_order_of_score,
        smaller_forgets_the_multiple,
        smaller_rounds_up,
        smaller_zeroes_only,
    ],
}
