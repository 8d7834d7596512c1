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


# 5.4


def gain_loop(us, gains):
    after = np.array(us, dtype=float) / np.array(gains)
    rest = after[1:].sum()
    return us_total(us) / after.sum(), us_total(us) / rest if rest > 0 else math.inf


def us_total(us):
    return float(np.sum(us))


def gain_by_shares(us, gains):
    total = torch.tensor(us, dtype=torch.float64).sum()
    shares = torch.tensor(us, dtype=torch.float64) / total
    left = shares / torch.tensor(gains, dtype=torch.float64)
    return [1 / left.sum(), 1 / left[1:].sum()]


def gain_mean(us, gains):
    return mean(gains), gain_loop(us, gains)[1]


def gain_weighted_mean(us, gains):
    return sum(t * g for t, g in zip(us, gains)) / sum(us), gain_loop(us, gains)[1]


def gain_of_the_first(us, gains):
    return gains[0], gain_loop(us, gains)[1]


def gain_product(us, gains):
    return math.prod(gains), gain_loop(us, gains)[1]


def gain_upside_down(us, gains):
    gain, most = gain_loop(us, gains)
    return 1 / gain, most


def gain_only_first_changes(us, gains):
    return sum(us) / (us[0] / gains[0] + sum(us[1:])), gain_loop(us, gains)[1]


def gain_times_instead(us, gains):
    return sum(us) / sum(t * g for t, g in zip(us, gains)), gain_loop(us, gains)[1]


def gain_harmonic(us, gains):
    return len(gains) / sum(1 / g for g in gains), gain_loop(us, gains)[1]


def gain_most_of_dense(us, gains):
    rest = sum(us[1:])
    return gain_loop(us, gains)[0], sum(us) / rest if rest else math.inf


def gain_most_after(us, gains):
    gain, most = gain_loop(us, gains)
    return gain, most / gain


def gain_most_is_share(us, gains):
    return gain_loop(us, gains)[0], sum(us) / us[0] if us[0] else math.inf


def gain_divides_by_zero(us, gains):
    after = [t / g for t, g in zip(us, gains)]
    return sum(us) / sum(after), sum(us) / sum(after[1:])


def gain_most_zero(us, gains):
    gain, most = gain_loop(us, gains)
    return gain, 0.0 if most == math.inf else most


def gain_rounded(us, gains):
    gain, most = gain_loop(us, gains)
    return round(gain, 2), most


def gain_alone(us, gains):
    return gain_loop(us, gains)[0]


def gain_never_below_one(us, gains):
    gain, most = gain_loop(us, gains)
    return max(1.0, gain), most


# 5.6


def tokens_plain(M, layers, peak, bandwidth, sms, launch, rest, **change):
    """Right, but for what is changed: parts of the arithmetic, of the bytes, and how they are put together."""
    times = []
    for sparse in (False, True):
        us = rest
        for N, K in layers:
            tiles = math.ceil(M / 128) * math.ceil(N / 128)
            count = math.ceil(tiles / sms)
            full = change.get("waves", lambda count, tiles: count * sms)(count, tiles) * 128 * 128 * K * 2 / peak
            arithmetic = full / (change.get("factor", 2) if sparse else 1)
            kept = change.get("kept", 1 / 2 + 1 / 8) if sparse else 1.0
            moved = change.get("x", 1) * M * K + kept * N * K + change.get("y", 2) * M * N
            both = change.get("both", max)(arithmetic, moved / bandwidth)
            us += both + change.get("launch", launch)
        times.append(us)
    return tuple(M / us * 1e6 for us in times)


def tokens_numpy(M, layers, peak, bandwidth, sms, launch, rest):
    N, K = np.array(layers, dtype=float).T
    rounds = np.ceil(math.ceil(M / 128) * np.ceil(N / 128) / sms)
    answer = []
    for part, bytes_a_weight in ((1, 1), (2, 0.625)):
        arithmetic = rounds * sms * 2 * 128**2 * K / part / peak
        memory = (M * K + bytes_a_weight * N * K + 2 * M * N) / bandwidth
        answer.append(1e6 * M / (rest + len(layers) * launch + np.maximum(arithmetic, memory).sum()))
    return np.array(answer)


def _tokens(name, **change):
    def wrong(M, layers, peak, bandwidth, sms, launch, rest):
        return tokens_plain(M, layers, peak, bandwidth, sms, launch, rest, **change)

    wrong.__name__ = f"tokens_{name}"
    return wrong


def tokens_without_rest(M, layers, peak, bandwidth, sms, launch, rest):
    return tokens_plain(M, layers, peak, bandwidth, sms, launch, 0.0)


def tokens_rest_gains_too(M, layers, peak, bandwidth, sms, launch, rest):
    dense, _ = tokens_plain(M, layers, peak, bandwidth, sms, launch, rest)
    return dense, tokens_plain(M, layers, peak, bandwidth, sms, launch, rest / 2)[1]


def tokens_rest_in_each_layer(M, layers, peak, bandwidth, sms, launch, rest):
    return tokens_plain(M, layers, peak, bandwidth, sms, launch, rest * len(layers))


def tokens_one_launch(M, layers, peak, bandwidth, sms, launch, rest):
    return tokens_plain(M, layers, peak, bandwidth, sms, 0.0, rest + launch)


def tokens_steps(M, layers, peak, bandwidth, sms, launch, rest):
    return tuple(value / M for value in tokens_plain(M, layers, peak, bandwidth, sms, launch, rest))


def tokens_microseconds(M, layers, peak, bandwidth, sms, launch, rest):
    return tuple(1e6 * M / value for value in tokens_plain(M, layers, peak, bandwidth, sms, launch, rest))


def tokens_swapped(M, layers, peak, bandwidth, sms, launch, rest):
    return tokens_plain(M, layers, peak, bandwidth, sms, launch, rest)[::-1]


def tokens_axes_swapped(M, layers, *card):
    return tokens_plain(M, [(K, N) for N, K in layers], *card)


def tokens_first_layer(M, layers, *card):
    return tokens_plain(M, layers[:1], *card)


def tokens_longest_layer(M, layers, *card):
    return tokens_plain(M, [max(layers, key=lambda layer: layer[0] * layer[1])], *card)


def tokens_gain(M, layers, *card):
    dense, sparse = tokens_plain(M, layers, *card)
    return dense, sparse / dense


RIGHT = {
    "5.1": [judge_numpy, judge_torch, judge_in_float32],
    "5.2": [intensity_steps, intensity_loop, intensity_numpy32],
    "5.3": [waves_float, waves_counted, waves_tuple_of_tensors],
    "5.4": [gain_loop, gain_by_shares],
    "5.6": [tokens_plain, tokens_numpy],
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
    "5.4": [
        gain_mean,
        gain_weighted_mean,
        gain_of_the_first,
        gain_product,
        gain_upside_down,
        gain_only_first_changes,
        gain_times_instead,
        gain_harmonic,
        gain_most_of_dense,
        gain_most_after,
        gain_most_is_share,
        gain_divides_by_zero,
        gain_most_zero,
        gain_rounded,
        gain_alone,
        gain_never_below_one,
    ],
    "5.6": [
        _tokens("no_waves", waves=lambda count, tiles: tiles),
        _tokens("part_of_a_wave", waves=lambda count, tiles: max(tiles, 1.5)),
        _tokens("half_the_operations", factor=4),
        _tokens("24_gains_no_arithmetic", factor=1),
        _tokens("no_positions", kept=1 / 2),
        _tokens("positions_of_all", kept=1 / 2 + 1 / 4),
        _tokens("24_moves_all", kept=1),
        _tokens("output_in_one_byte", y=1),
        _tokens("input_in_two_bytes", x=2),
        _tokens("no_input", x=0),
        _tokens("sum_of_both", both=lambda a, m: a + m),
        _tokens("memory_only", both=lambda a, m: m),
        _tokens("arithmetic_only", both=lambda a, m: a),
        _tokens("the_shorter", both=min),
        _tokens("no_launch", launch=0.0),
        tokens_without_rest,
        tokens_rest_gains_too,
        tokens_rest_in_each_layer,
        tokens_one_launch,
        tokens_steps,
        tokens_microseconds,
        tokens_swapped,
        tokens_axes_swapped,
        tokens_first_layer,
        tokens_longest_layer,
        tokens_gain,
    ],
}
