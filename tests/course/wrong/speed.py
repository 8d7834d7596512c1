"""Notebook 05: solutions with the mistakes that learners make, and right ones written differently."""

import math
from statistics import mean, median

import numpy as np
import torch


def _verdict(wins, losses, rounds):
    return "faster" if wins >= 0.75 * rounds else "slower" if losses >= 0.75 * rounds else "cannot tell"


def _count(base, other):
    return sum(b > o for b, o in zip(base, other)), sum(b < o for b, o in zip(base, other))


# 5.1


def judge_numpy(base, other):
    b, o = np.array(base), np.array(other)
    if (b > o).mean() >= 0.75:
        word = "faster"
    elif (b < o).mean() >= 0.75:
        word = "slower"
    else:
        word = "cannot tell"
    return np.median(b / o), word


def judge_torch(base, other):
    ratios = torch.tensor(base, dtype=torch.float64) / torch.tensor(other, dtype=torch.float64)
    wins, losses = int((ratios > 1).sum()), int((ratios < 1).sum())
    return [torch.quantile(ratios, 0.5), _verdict(wins, losses, len(base))]


def judge_upside_down(base, other):
    return median(o / b for b, o in zip(base, other)), _verdict(*_count(base, other), len(base))


def judge_best_of_each(base, other):
    return min(base) / min(other), _verdict(*_count(base, other), len(base))


def judge_mean(base, other):
    return mean(b / o for b, o in zip(base, other)), _verdict(*_count(base, other), len(base))


def judge_medians(base, other):
    return median(base) / median(other), _verdict(*_count(base, other), len(base))


def judge_lower_middle(base, other):
    ratios = torch.tensor([b / o for b, o in zip(base, other)])
    return ratios.median().item(), _verdict(*_count(base, other), len(base))


def judge_by_the_number(base, other):
    ratio = median(b / o for b, o in zip(base, other))
    return ratio, "faster" if ratio > 1 else "slower" if ratio < 1 else "cannot tell"


def judge_majority(base, other):
    wins, losses = _count(base, other)
    ratio = median(b / o for b, o in zip(base, other))
    return ratio, "faster" if wins > len(base) / 2 else "slower" if losses > len(base) / 2 else "cannot tell"


def judge_more_than_three_quarters(base, other):
    wins, losses = _count(base, other)
    ratio = median(b / o for b, o in zip(base, other))
    n = 0.75 * len(base)
    return ratio, "faster" if wins > n else "slower" if losses > n else "cannot tell"


def judge_ties_win(base, other):
    wins = sum(b >= o for b, o in zip(base, other))
    losses = sum(b < o for b, o in zip(base, other))
    return median(b / o for b, o in zip(base, other)), _verdict(wins, losses, len(base))


def judge_slower_is_what_is_left(base, other):
    wins, losses = _count(base, other)
    word = "faster" if wins >= 0.75 * len(base) else "slower" if losses > wins else "cannot tell"
    return median(b / o for b, o in zip(base, other)), word


def judge_sorted_first(base, other):
    b, o = sorted(base), sorted(other)
    return median(x / y for x, y in zip(b, o)), _verdict(*_count(b, o), len(b))


def judge_words_swapped(base, other):
    wins, losses = _count(base, other)
    return median(b / o for b, o in zip(base, other)), _verdict(losses, wins, len(base))


# 5.2


def intensity_steps(M, N, K, bytes_in, bytes_out, sparse24):
    kept = N * K // 2 if sparse24 else N * K
    bits = 8 * bytes_in * (M * K + kept) + 8 * bytes_out * M * N
    if sparse24:
        bits += 2 * kept
    return torch.tensor(16 * M * N * K / bits, dtype=torch.float64)


def intensity_loop(M, N, K, bytes_in, bytes_out, sparse24):
    operations = sum(2 * K for _ in range(N)) * M
    weight = N * K * (bytes_in * 0.5 + 0.125) if sparse24 else N * K * bytes_in
    return np.float64(operations / (weight + M * (K * bytes_in + N * bytes_out)))


def intensity_half_the_operations(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, N, K, bytes_in, bytes_out, sparse24) / 2


def intensity_no_output(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, N, K, bytes_in, 0, sparse24)


def intensity_one_width(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, N, K, bytes_in, bytes_in, sparse24)


def intensity_no_input(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * (bytes_in * 0.5 + 0.125) if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (weight + M * N * bytes_out)


def intensity_no_positions(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * bytes_in * (0.5 if sparse24 else 1)
    return 2 * M * N * K / (weight + M * (K * bytes_in + N * bytes_out))


def intensity_positions_of_all(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * (bytes_in * 0.5 + 0.25) if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (weight + M * (K * bytes_in + N * bytes_out))


def intensity_ignores_24(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, N, K, bytes_in, bytes_out, False)


def intensity_skips_zeros(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, N, K, bytes_in, bytes_out, sparse24) / (2 if sparse24 else 1)


def intensity_whole_bytes(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * bytes_in / 2 + math.ceil(N * K / 8) if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)


def intensity_axes_swapped(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, K, N, bytes_in, bytes_out, sparse24)


def intensity_floor(M, N, K, bytes_in, bytes_out, sparse24):
    return int(intensity_loop(M, N, K, bytes_in, bytes_out, sparse24))


# 5.3


def waves_float(M, N, rows, columns, sms):
    count = math.ceil(math.ceil(M / rows) * math.ceil(N / columns) / sms)
    return [float(count), torch.tensor(M * N) / (count * sms * rows * columns)]


def waves_counted(M, N, rows, columns, sms):
    tiles = sum(1 for _ in range(0, M, rows) for _ in range(0, N, columns))
    count = len(range(0, tiles, sms))
    return np.array([count, (M * N) / (count * (sms * rows * columns))])


def waves_floor(M, N, rows, columns, sms):
    count = max(1, (M // rows) * (N // columns) // sms)
    return count, M * N / (count * sms * rows * columns)


def waves_no_edges(M, N, rows, columns, sms):
    count = math.ceil(M * N / (rows * columns) / sms)
    return count, M * N / (count * sms * rows * columns)


def waves_not_rounded(M, N, rows, columns, sms):
    count = math.ceil(M / rows) * math.ceil(N / columns) / sms
    return count, M * N / (count * sms * rows * columns)


def waves_one_more(M, N, rows, columns, sms):
    count = math.ceil(M / rows) * math.ceil(N / columns) // sms + 1
    return count, M * N / (count * sms * rows * columns)


def waves_axes_swapped(M, N, rows, columns, sms):
    return waves_float(N, M, rows, columns, sms)


def waves_tiles_for_outputs(M, N, rows, columns, sms):
    tiles = math.ceil(M / rows) * math.ceil(N / columns)
    count = math.ceil(tiles / sms)
    return count, tiles / (count * sms)


def waves_no_idle(M, N, rows, columns, sms):
    tiles = math.ceil(M / rows) * math.ceil(N / columns)
    return math.ceil(tiles / sms), M * N / (tiles * rows * columns)


def waves_upside_down(M, N, rows, columns, sms):
    count, share = waves_float(M, N, rows, columns, sms)
    return count, 1 / share


def waves_tiles(M, N, rows, columns, sms):
    tiles = math.ceil(M / rows) * math.ceil(N / columns)
    return tiles, M * N / (tiles * rows * columns)


def judge_two_percent(base, other):
    wins = sum(b > 1.02 * o for b, o in zip(base, other))
    losses = sum(o > 1.02 * b for b, o in zip(base, other))
    return median(b / o for b, o in zip(base, other)), _verdict(wins, losses, len(base))


def judge_nearly_equal(base, other):
    wins = sum(b > o and not math.isclose(b, o, rel_tol=1e-3) for b, o in zip(base, other))
    losses = sum(b < o and not math.isclose(b, o, rel_tol=1e-3) for b, o in zip(base, other))
    return median(b / o for b, o in zip(base, other)), _verdict(wins, losses, len(base))


def judge_microseconds_are_equal(base, other):
    wins = sum(b - o > 1e-6 for b, o in zip(base, other))
    losses = sum(o - b > 1e-6 for b, o in zip(base, other))
    return median(b / o for b, o in zip(base, other)), _verdict(wins, losses, len(base))


def judge_rounds_down(base, other):
    wins, losses = _count(base, other)
    n = int(0.75 * len(base))
    return median(
        b / o for b, o in zip(base, other)
    ), "faster" if wins >= n else "slower" if losses >= n else "cannot tell"


def judge_rounded(base, other):
    wins, losses = _count(base, other)
    n = round(0.75 * len(base))
    return median(
        b / o for b, o in zip(base, other)
    ), "faster" if wins >= n else "slower" if losses >= n else "cannot tell"


def judge_without_ties(base, other):
    wins, losses = _count(base, other)
    return median(b / o for b, o in zip(base, other)), _verdict(wins, losses, max(1, wins + losses))


def judge_ratio_decides_too(base, other):
    ratio = median(b / o for b, o in zip(base, other))
    wins, losses = _count(base, other)
    word = _verdict(wins, losses, len(base))
    return ratio, word if abs(ratio - 1) > 0.02 else "cannot tell"


def judge_two_digits(base, other):
    return round(median(b / o for b, o in zip(base, other)), 2), _verdict(*_count(base, other), len(base))


def judge_three_digits(base, other):
    return round(median(b / o for b, o in zip(base, other)), 3), _verdict(*_count(base, other), len(base))


def judge_percent(base, other):
    return 100 * median(b / o for b, o in zip(base, other)), _verdict(*_count(base, other), len(base))


def judge_unsorted_middle(base, other):
    ratios = [b / o for b, o in zip(base, other)]
    return ratios[len(ratios) // 2], _verdict(*_count(base, other), len(base))


def judge_differences(base, other):
    return median(b - o for b, o in zip(base, other)), _verdict(*_count(base, other), len(base))


def judge_two_thirds(base, other):
    wins, losses = _count(base, other)
    n = 2 * len(base) / 3
    return median(
        b / o for b, o in zip(base, other)
    ), "faster" if wins >= n else "slower" if losses >= n else "cannot tell"


def judge_ties_lose(base, other):
    wins = sum(b > o for b, o in zip(base, other))
    return median(b / o for b, o in zip(base, other)), _verdict(wins, len(base) - wins, len(base))


def judge_sorts_in_place(base, other):
    word = _verdict(*_count(base, other), len(base))
    ratio = median(b / o for b, o in zip(base, other))
    base.sort()
    return ratio, word


def judge_in_float32(base, other):
    b, o = torch.tensor(base), torch.tensor(other)
    wins, losses = _count(base, other)
    return (b / o).quantile(0.5), np.str_(_verdict(wins, losses, len(base)))


def intensity_rounded(M, N, K, bytes_in, bytes_out, sparse24):
    return round(intensity_loop(M, N, K, bytes_in, bytes_out, sparse24), 2)


def intensity_four_digits(M, N, K, bytes_in, bytes_out, sparse24):
    return round(float(intensity_loop(M, N, K, bytes_in, bytes_out, sparse24)), 4)


def intensity_input_is_sparse_too(M, N, K, bytes_in, bytes_out, sparse24):
    return (
        intensity_loop(M, N, K, bytes_in, bytes_out, sparse24)
        if not sparse24
        else 2 * M * N * K / ((M * K + N * K) * bytes_in / 2 + N * K / 8 + M * N * bytes_out)
    )


def intensity_whole_weight(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * bytes_in // 2 + N * K // 8 if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)


def intensity_two_bits_a_group(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * bytes_in / 2 + N * K / 16 if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)


def intensity_positions_as_bytes(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * bytes_in / 2 + N * K if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)


def intensity_of_weights_only(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * (bytes_in * 0.5 + 0.125) if sparse24 else N * K * bytes_in
    return 2 * M * N * K / weight


def intensity_in_bits(M, N, K, bytes_in, bytes_out, sparse24):
    return intensity_loop(M, N, K, bytes_in, bytes_out, sparse24) / 8


def intensity_positions_in_dense(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * (bytes_in * (0.5 if sparse24 else 1) + 0.125)
    return 2 * M * N * K / (M * K * bytes_in + weight + M * N * bytes_out)


def intensity_output_twice(M, N, K, bytes_in, bytes_out, sparse24):
    weight = N * K * (bytes_in * 0.5 + 0.125) if sparse24 else N * K * bytes_in
    return 2 * M * N * K / (M * K * bytes_in + weight + 2 * M * N * bytes_out)


def intensity_turned(M, N, K, bytes_in, bytes_out, sparse24):
    return 1 / intensity_loop(M, N, K, bytes_in, bytes_out, sparse24)


def intensity_numpy32(M, N, K, bytes_in, bytes_out, sparse24):
    return np.float32(intensity_loop(M, N, K, bytes_in, bytes_out, sparse24))


def waves_rounded(M, N, rows, columns, sms):
    count = max(1, round(math.ceil(M / rows) * math.ceil(N / columns) / sms))
    return count, M * N / (count * sms * rows * columns)


def waves_efficiency_three_digits(M, N, rows, columns, sms):
    count, share = waves_float(M, N, rows, columns, sms)
    return count, round(float(share), 3)


def waves_percent(M, N, rows, columns, sms):
    count, share = waves_float(M, N, rows, columns, sms)
    return count, 100 * share


def waves_only_last(M, N, rows, columns, sms):
    tiles = math.ceil(M / rows) * math.ceil(N / columns)
    return math.ceil(tiles / sms), (tiles % sms or sms) / sms


def waves_floor_columns(M, N, rows, columns, sms):
    count = math.ceil(math.ceil(M / rows) * max(1, N // columns) / sms)
    return count, M * N / (count * sms * rows * columns)


def waves_per_dimension(M, N, rows, columns, sms):
    count = math.ceil(M / rows) * math.ceil(math.ceil(N / columns) / sms)
    return count, M * N / (count * sms * rows * columns)


def waves_tiles_plus_one(M, N, rows, columns, sms):
    count = math.ceil((M // rows + 1) * (N // columns + 1) / sms)
    return count, M * N / (count * sms * rows * columns)


def waves_capped(M, N, rows, columns, sms):
    count, share = waves_float(M, N, rows, columns, sms)
    return min(count, 100), share


def waves_order(M, N, rows, columns, sms):
    return waves_float(M, N, rows, columns, sms)[::-1]


def waves_one_result(M, N, rows, columns, sms):
    return waves_float(M, N, rows, columns, sms)[1]


def waves_tuple_of_tensors(M, N, rows, columns, sms):
    count, share = waves_float(M, N, rows, columns, sms)
    return torch.tensor([count, share], dtype=torch.float64)


RIGHT = {
    "5.1": [judge_numpy, judge_torch, judge_in_float32],
    "5.2": [intensity_steps, intensity_loop, intensity_numpy32],
    "5.3": [waves_float, waves_counted, waves_tuple_of_tensors],
}

WRONG = {
    "5.1": [
        judge_upside_down,
        judge_best_of_each,
        judge_mean,
        judge_medians,
        judge_lower_middle,
        judge_by_the_number,
        judge_majority,
        judge_more_than_three_quarters,
        judge_ties_win,
        judge_slower_is_what_is_left,
        judge_sorted_first,
        judge_words_swapped,
        judge_two_percent,
        judge_nearly_equal,
        judge_microseconds_are_equal,
        judge_rounds_down,
        judge_rounded,
        judge_without_ties,
        judge_ratio_decides_too,
        judge_two_digits,
        judge_three_digits,
        judge_percent,
        judge_unsorted_middle,
        judge_differences,
        judge_two_thirds,
        judge_ties_lose,
        judge_sorts_in_place,
    ],
    "5.2": [
        intensity_half_the_operations,
        intensity_no_output,
        intensity_one_width,
        intensity_no_input,
        intensity_no_positions,
        intensity_positions_of_all,
        intensity_ignores_24,
        intensity_skips_zeros,
        intensity_whole_bytes,
        intensity_axes_swapped,
        intensity_floor,
        intensity_rounded,
        intensity_four_digits,
        intensity_input_is_sparse_too,
        intensity_whole_weight,
        intensity_two_bits_a_group,
        intensity_positions_as_bytes,
        intensity_of_weights_only,
        intensity_in_bits,
        intensity_positions_in_dense,
        intensity_output_twice,
        intensity_turned,
    ],
    "5.3": [
        waves_floor,
        waves_no_edges,
        waves_not_rounded,
        waves_one_more,
        waves_axes_swapped,
        waves_tiles_for_outputs,
        waves_no_idle,
        waves_upside_down,
        waves_tiles,
        waves_rounded,
        waves_efficiency_three_digits,
        waves_percent,
        waves_only_last,
        waves_floor_columns,
        waves_per_dimension,
        waves_tiles_plus_one,
        waves_capped,
        waves_order,
        waves_one_result,
    ],
}
