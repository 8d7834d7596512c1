"""Notebook 03: solutions with the mistakes that learners make, and right ones written differently."""

import bisect
import math
import struct

import numpy as np
import torch

# 3.1


def decode_by_float16(code):
    """E5M2 is the upper byte of float16."""
    return struct.unpack("<e", bytes([0, code]))[0]


def decode_by_torch(code):
    return torch.tensor([code], dtype=torch.uint8).view(torch.float8_e5m2).float()[0]


def decode_as_e4m3(code):
    return torch.tensor([code], dtype=torch.uint8).view(torch.float8_e4m3fn).float().item()


def _e5m2(code, bias=15, subnormals=True, specials=True, sign=True, one=1.0, parts=4):
    s = -1.0 if code & 0x80 and sign else 1.0
    e, m = code >> 2 & 31, code & 3
    if e == 31 and specials:
        return s * math.inf if m == 0 else math.nan
    if e == 0 and subnormals:
        return s * 2.0 ** (1 - bias) * m / parts
    return s * 2.0 ** (e - bias) * (one + m / parts)


def decode_without_specials(code):
    return _e5m2(code, specials=False)


def decode_all_ones_is_nan(code):
    return math.nan if code & 0x7C == 0x7C else _e5m2(code)


def decode_without_subnormals(code):
    return _e5m2(code, subnormals=False)


def decode_subnormal_power(code):
    return _e5m2(code) / 2 if code & 0x7C == 0 else _e5m2(code)


def decode_bias_16(code):
    return _e5m2(code, bias=16)


def decode_without_sign(code):
    return _e5m2(code, sign=False)


def decode_unsigned_infinity(code):
    return math.inf if code & 0x7F == 0x7C else _e5m2(code)


def decode_eighths(code):
    return _e5m2(code, parts=8)


def decode_without_leading_one(code):
    return _e5m2(code, one=0.0)


# 3.2


def nearest_loop(x, values):
    out = []
    for number in x.tolist():
        distance = [abs(number - v) for v in values.tolist()]
        best = [c for c, d in enumerate(distance) if d == min(distance)]
        out.append(next((c for c in best if c % 2 == 0), best[0]))
    return out


def nearest_bisect(x, values):
    middles = ((values[1:] + values[:-1]) / 2).tolist()
    out = []
    for number in x.tolist():
        code = bisect.bisect_left(middles, number)
        if code < len(middles) and middles[code] == number and code % 2:
            code += 1
        out.append(code)
    return np.array(out)


def nearest_table(x, values):
    far = (x[:, None].double() - values[None].double()).abs()
    tied = far == far.amin(1, keepdim=True)
    odd = torch.arange(len(values)) % 2
    return torch.where(tied, odd, 9).argmin(1).to(torch.float64)


def nearest_ties_down(x, values):
    return (x[:, None] - values).abs().argmin(1)


def nearest_ties_up(x, values):
    far = (x[:, None] - values).abs().flip(1)
    return len(values) - 1 - far.argmin(1)


def nearest_ties_to_odd(x, values):
    far = (x[:, None] - values).abs()
    tied = far == far.amin(1, keepdim=True)
    return torch.where(tied, torch.arange(len(values)) % 2 == 0, 9).argmin(1)


def nearest_down(x, values):
    return torch.searchsorted(values, x, right=True) - 1


def nearest_up(x, values):
    return torch.searchsorted(values, x).clamp(max=len(values) - 1)


def nearest_values(x, values):
    return values[nearest_bisect(x, values)]


def nearest_wraps(x, values):
    return torch.from_numpy(nearest_bisect(x, values)) * (x <= values[-1])


def nearest_off_by_one(x, values):
    return [c + 1 for c in nearest_loop(x, values)]


def nearest_in_logs(x, values):
    logs = values.clamp_min(1e-9).log2()
    return (x.clamp_min(1e-9).log2()[:, None] - logs).abs().argmin(1)


# 3.3


def scales_loop(W, keep):
    out = []
    for row, kept in zip(W.tolist(), keep.tolist()):
        top = max((abs(w) for w, k in zip(row, kept) if k), default=0.0)
        out.append([top / 448 if top > 0 else 1.0])
    return out


def scales_numpy(W, keep):
    top = (np.abs(W.numpy()) * keep.numpy()).max(1, keepdims=True).astype(np.float64)
    return np.where(top == 0, 448, top) / 448


def scales_before_pruning(W, keep):
    top = W.abs().amax(1, keepdim=True)
    return torch.where((W * keep).abs().amax(1, keepdim=True) > 0, top / 448, 1.0)


def scales_zero_rows(W, keep):
    return (W * keep).abs().amax(1, keepdim=True) / 448


def scales_zero_rows_448th(W, keep):
    top = (W * keep).abs().amax(1, keepdim=True)
    return torch.where(top > 0, top, 1.0) / 448


def scales_tiny_rows(W, keep):
    return ((W * keep).abs().amax(1, keepdim=True) / 448).clamp_min(1e-12)


def scales_columns(W, keep):
    top = (W * keep).abs().amax(0, keepdim=True)
    return torch.where(top > 0, top / 448, 1.0)


def scales_without_abs(W, keep):
    top = (W * keep).amax(1, keepdim=True)
    return torch.where(top > 0, top / 448, 1.0)


def scales_tensor(W, keep):
    top = (W * keep).abs().amax().expand(len(W), 1)
    return torch.where(top > 0, top / 448, 1.0)


def scales_flat(W, keep):
    return scales_zero_rows(W, keep)[:, 0]


def scales_inverse(W, keep):
    return 1 / row_scales_right(W, keep)


def scales_e5m2(W, keep):
    right = row_scales_right(W, keep)
    return torch.where((W * keep).abs().amax(1, keepdim=True) > 0, right * 448 / 57344, 1.0)


def scales_mean(W, keep):
    mean = (W * keep).abs().mean(1, keepdim=True)
    return torch.where(mean > 0, mean / 448, 1.0)


def scales_of_pruned(W, keep):
    return row_scales_right(W, ~keep)


def row_scales_right(W, keep):
    top = torch.where(keep, W.abs(), 0).max(dim=1).values[:, None]
    return torch.where(top == 0, torch.ones_like(top), top / 448)


# 3.4


def back_clamp(W, keep, scale):
    codes = (W / scale).clamp(-57344, 57344).to(torch.float8_e5m2)
    return codes.float() * scale * keep


def back_masked_first(W, keep, scale):
    y = torch.where(keep, W / scale, torch.zeros_like(W))
    y = torch.minimum(torch.maximum(y, torch.tensor(-57344.0)), torch.tensor(57344.0))
    return (y.to(torch.float8_e5m2).double() * scale.double()).numpy()


def back_half(W, keep, scale):
    """Infinity replaced after the cast, by the largest number that a code stands for."""
    codes = (W / scale).to(torch.float8_e5m2).float()
    return torch.where(keep, codes.nan_to_num(posinf=57344.0, neginf=-57344.0) * scale, 0.0)


def back_as_printed(W, keep, scale):
    return (W / scale).to(torch.float8_e5m2).float() * scale * keep


def back_masked_only(W, keep, scale):
    y = torch.where(keep, W / scale, 0.0)
    return y.to(torch.float8_e5m2).float() * scale


def back_nan_to_num(W, keep, scale):
    return ((W / scale).to(torch.float8_e5m2).float() * scale * keep).nan_to_num()


def back_nan_to_zero(W, keep, scale):
    out = (W / scale).to(torch.float8_e5m2).float() * scale * keep
    return torch.where(out.isfinite(), out, 0.0)


def back_clamp_weight(W, keep, scale):
    codes = (W.clamp(-57344, 57344) / scale).to(torch.float8_e5m2)
    return codes.float() * scale * keep


def back_clamp_448(W, keep, scale):
    codes = (W / scale).clamp(-448, 448).to(torch.float8_e5m2)
    return codes.float() * scale * keep


def back_e4m3(W, keep, scale):
    codes = (W / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    return codes.float() * scale * keep


def back_without_rounding(W, keep, scale):
    return (W / scale).clamp(-57344, 57344) * scale * keep


def back_one_side(W, keep, scale):
    codes = (W / scale).clamp(max=57344).to(torch.float8_e5m2)
    return torch.where(keep, codes.float() * scale, 0.0)


def back_without_scale(W, keep, scale):
    return (W / scale).clamp(-57344, 57344).to(torch.float8_e5m2).float() * keep


def back_without_mask(W, keep, scale):
    return (W / scale).clamp(-57344, 57344).to(torch.float8_e5m2).float() * scale


def decode_bias_7(code):
    return _e5m2(code, bias=7)


def decode_nan_for_infinity(code):
    return math.copysign(math.inf, -(code & 0x80) or 1) if code & 0x7C == 0x7C else _e5m2(code)


def decode_largest_for_infinity(code):
    return math.copysign(57344.0, _e5m2(code)) if code & 0x7F == 0x7C else _e5m2(code)


def decode_last_byte_only_is_nan(code):
    return (
        math.nan
        if code & 0x7F == 0x7F
        else math.copysign(math.inf, 0.5 - (code >> 7))
        if code & 0x7C == 0x7C
        else _e5m2(code)
    )


def decode_zero_only(code):
    return 0.0 if code & 0x7F == 0 else _e5m2(code, subnormals=False)


def decode_flushed(code):
    return 0.0 if code & 0x7C == 0 else _e5m2(code)


def decode_twos_complement(code):
    return _e5m2(code) if code < 128 else -_e5m2(256 - code & 0x7F)


def decode_mantissa_first(code):
    return _e5m2(code & 0x80 | (code & 31) << 2 | code >> 5 & 3)


def decode_sign_last(code):
    return _e5m2((code & 1) << 7 | code >> 1)


def decode_signed_nan_as_text(code):
    return str(_e5m2(code))


def decode_by_numpy(code):
    return np.array([code << 8], dtype=np.uint16).view(np.float16)[0]


def nearest_of_half(x, values):
    return nearest_bisect(x.half().float().clamp(max=values[-1]), values)


def nearest_of_bfloat16(x, values):
    return nearest_bisect(x.bfloat16().float(), values)


def nearest_ties_roughly(x, values):
    far = (x.clamp(max=values[-1])[:, None] - values).abs()
    tied = far <= far.amin(1, keepdim=True) * (1 + 1e-4)
    return torch.where(tied, torch.arange(len(values)) % 2, 9).argmin(1)


def nearest_no_clamp(x, values):
    far = (x[:, None] - values).abs()
    return torch.where(far == far.amin(1, keepdim=True), torch.arange(len(values)) % 2, 9).argmin(1)


def nearest_in_ratios(x, values):
    return (x.clamp(max=values[-1])[:, None] / values.clamp_min(1e-9)).log().abs().argmin(1)


def nearest_never_zero(x, values):
    codes = torch.from_numpy(nearest_bisect(x, values))
    return torch.where((codes == 0) & (x > 0), 1, codes)


def nearest_rounds_place(x, values):
    places = torch.from_numpy(np.interp(x.numpy(), values.numpy(), np.arange(len(values))))
    return (places + 0.5).floor()


def nearest_even_value(x, values):
    codes = nearest_loop(x, values)
    return [
        c + 1 if c + 1 < len(values) and x[i] * 2 == values[c] + values[c + 1] and values[c + 1] % 2 == 0 else c
        for i, c in enumerate(codes)
    ]


def nearest_even_of_interpolated(x, values):
    places = np.interp(x.double().numpy(), values.double().numpy(), np.arange(len(values)))
    return np.round(places)


def scales_with_epsilon(W, keep):
    top = (W * keep).abs().amax(1, keepdim=True)
    return torch.where(top > 0, (top + 1e-8) / 448, 1.0)


def scales_small_is_empty(W, keep):
    top = (W * keep).abs().amax(1, keepdim=True)
    return torch.where(top > 1e-6, top / 448, 1.0)


def scales_empty_only(W, keep):
    top = (W * keep).abs().amax(1, keepdim=True)
    return torch.where(keep.any(1, keepdim=True), top / 448, 1.0)


def scales_half(W, keep):
    top = (W * keep).abs().amax(1, keepdim=True)
    return torch.where(top > 0, top / 448, 1.0).bfloat16()


def scales_power_of_two(W, keep):
    return row_scales_right(W, keep).log2().ceil().exp2()


def scales_447(W, keep):
    top = (W * keep).abs().amax(1, keepdim=True)
    return torch.where(top > 0, top / 447, 1.0)


def scales_spread(W, keep):
    kept = W * keep
    top = (kept.amax(1, keepdim=True) - kept.amin(1, keepdim=True)) / 2
    return torch.where(top > 0, top / 448, 1.0)


def scales_at_most_one(W, keep):
    return row_scales_right(W, keep).clamp(max=1.0)


def scales_by_sorting(W, keep):
    rows = [sorted(w[k].abs().double().tolist(), reverse=True) for w, k in zip(W, keep)]
    return np.array([[row[0] / 448.0 if row and row[0] else 1] for row in rows])


def back_flushed(W, keep, scale):
    y = (W / scale).clamp(-57344, 57344)
    return torch.where(y.abs() < 2.0**-14, 0.0, y).to(torch.float8_e5m2).float() * scale * keep


def back_through_half(W, keep, scale):
    y = (W / scale).clamp(-57344, 57344).half()
    return y.to(torch.float8_e5m2).float() * scale * keep


def back_of_magnitudes(W, keep, scale):
    return back_clamp(W.abs(), keep, scale)


def back_truncated(W, keep, scale):
    y = (W / scale).clamp(-57344, 57344).half().view(torch.int16) & -256
    return y.view(torch.half).float() * scale * keep


def back_upper_byte_rounded(W, keep, scale):
    y = (W / scale).clamp(-57344, 57344).half().view(torch.int16).int()
    return ((y + 128) & -256).to(torch.int16).view(torch.half).float() * scale * keep


def back_pruned_outliers_only(W, keep, scale):
    y = torch.where(keep, W / scale, (W / scale).clamp(-57344, 57344))
    return y.to(torch.float8_e5m2).float() * scale * keep


def back_large_survivors_zero(W, keep, scale):
    fits = (W / scale).abs() <= 57344
    return torch.where(fits & keep, (W / scale).clamp(-57344, 57344).to(torch.float8_e5m2).float() * scale, 0.0)


def back_wrong_limit(W, keep, scale):
    return (W / scale).clamp(-61440, 61440).to(torch.float8_e5m2).float().nan_to_num() * scale * keep


def back_new_scale(W, keep, scale):
    own = torch.where(keep, W, 0.0).abs().amax(1, keepdim=True).clamp_min(1e-30) / 57344
    return back_clamp(W, keep, own)


def back_multiplied(W, keep, scale):
    return back_clamp(W * scale * scale, keep, scale)


def back_whole_numbers(W, keep, scale):
    return (W / scale).round().clamp(-57344, 57344).to(torch.float8_e5m2).float() * scale * keep


def back_by_search(W, keep, scale):
    grid = torch.arange(124, dtype=torch.uint8).view(torch.float8_e5m2).double()
    y = (W.double() / scale.double()).clamp(-57344, 57344)
    codes = nearest_table(y.abs().flatten(), grid).long().view(W.shape)
    return grid[codes] * y.sign() * scale.double() * keep


# 3.7


def rows_right(W, keep, values, nearest=nearest_table):
    scale = row_scales_right(W, keep)
    y = torch.where(keep, W, 0.0) / scale
    return nearest(y.abs().flatten(), values).view(W.shape) + 128 * (y < 0), scale


def rows_by_torch(W, keep, values):
    scale = row_scales_right(W, keep)
    y = torch.where(keep, W / scale, 0.0).clamp(-448, 448)
    return y.to(torch.float8_e4m3fn).view(torch.uint8), scale.numpy()


def rows_loop(W, keep, values):
    scale = row_scales_right(W, keep)
    codes = [nearest_loop(y.abs().clamp(max=448), values) for y in torch.where(keep, W, 0.0) / scale]
    return torch.tensor(codes) + 128 * (W.lt(0) & keep), scale  # a negative zero is a zero


def rows_without_sign(W, keep, values):
    codes, scale = rows_right(W, keep, values)
    return codes % 128, scale


def rows_twos_complement(W, keep, values):
    codes, scale = rows_right(W, keep, values)
    return torch.where(codes > 128, 384 - codes, codes), scale


def rows_signed_codes(W, keep, values):
    codes, scale = rows_right(W, keep, values)
    return torch.where(codes > 128, 128 - codes, codes), scale


def rows_values(W, keep, values):
    codes, scale = rows_right(W, keep, values)
    return values[codes.long() % 128] * torch.where(codes > 128, -1.0, 1.0), scale


def rows_codes_only(W, keep, values):
    return rows_right(W, keep, values)[0]


def rows_swapped(W, keep, values):
    return rows_right(W, keep, values)[::-1]


def rows_pruned_kept(W, keep, values):
    scale = row_scales_right(W, keep)
    y = W / scale
    return nearest_table(y.abs().clamp(max=448).flatten(), values).view(W.shape) + 128 * (y < 0), scale


def rows_scale_before_pruning(W, keep, values):
    scale = row_scales_right(W, torch.ones_like(keep))
    y = torch.where(keep, W, 0.0) / scale
    return nearest_table(y.abs().flatten(), values).view(W.shape) + 128 * (y < 0), scale


def rows_zero_rows(W, keep, values):
    return rows_right(W, keep, values)[0], scales_zero_rows(W, keep)


def rows_without_scale(W, keep, values):
    y = torch.where(keep, W, 0.0)
    return nearest_table(y.abs().clamp(max=448).flatten(), values).view(W.shape) + 128 * (y < 0), row_scales_right(
        W, keep
    )


def rows_ties_down(W, keep, values):
    return rows_right(W, keep, values, nearest_ties_down)


def rows_ties_up(W, keep, values):
    return rows_right(W, keep, values, nearest_ties_up)


def rows_down(W, keep, values):
    return rows_right(W, keep, values, nearest_down)


RIGHT = {
    "3.1": [decode_by_float16, decode_by_torch, decode_by_numpy],
    "3.2": [nearest_loop, nearest_bisect, nearest_table, nearest_even_of_interpolated],
    "3.3": [scales_loop, scales_numpy, row_scales_right, scales_by_sorting],
    "3.4": [back_clamp, back_masked_first, back_half, back_by_search],
    "3.7": [rows_right, rows_by_torch, rows_loop],
}
WRONG = {
    "3.1": [
        decode_as_e4m3,
        decode_without_specials,
        decode_all_ones_is_nan,
        decode_without_subnormals,
        decode_subnormal_power,
        decode_bias_16,
        decode_without_sign,
        decode_unsigned_infinity,
        decode_eighths,
        decode_without_leading_one,
        decode_bias_7,
        decode_nan_for_infinity,
        decode_largest_for_infinity,
        decode_last_byte_only_is_nan,
        decode_zero_only,
        decode_flushed,
        decode_twos_complement,
        decode_mantissa_first,
        decode_sign_last,
        decode_signed_nan_as_text,
    ],
    "3.2": [
        nearest_ties_down,
        nearest_ties_up,
        nearest_ties_to_odd,
        nearest_down,
        nearest_up,
        nearest_values,
        nearest_wraps,
        nearest_off_by_one,
        nearest_in_logs,
        nearest_of_half,
        nearest_of_bfloat16,
        nearest_ties_roughly,
        nearest_no_clamp,
        nearest_in_ratios,
        nearest_never_zero,
        nearest_rounds_place,
        nearest_even_value,
    ],
    "3.3": [
        scales_before_pruning,
        scales_zero_rows,
        scales_zero_rows_448th,
        scales_tiny_rows,
        scales_columns,
        scales_without_abs,
        scales_tensor,
        scales_flat,
        scales_inverse,
        scales_e5m2,
        scales_mean,
        scales_of_pruned,
        scales_with_epsilon,
        scales_small_is_empty,
        scales_empty_only,
        scales_half,
        scales_power_of_two,
        scales_447,
        scales_spread,
        scales_at_most_one,
    ],
    "3.4": [
        back_as_printed,
        back_masked_only,
        back_nan_to_num,
        back_nan_to_zero,
        back_clamp_weight,
        back_clamp_448,
        back_e4m3,
        back_without_rounding,
        back_one_side,
        back_without_scale,
        back_without_mask,
        back_flushed,
        back_through_half,
        back_of_magnitudes,
        back_truncated,
        back_upper_byte_rounded,
        back_pruned_outliers_only,
        back_large_survivors_zero,
        back_wrong_limit,
        back_new_scale,
        back_multiplied,
        back_whole_numbers,
    ],
    "3.7": [
        rows_without_sign,
        rows_twos_complement,
        rows_signed_codes,
        rows_values,
        rows_codes_only,
        rows_swapped,
        rows_pruned_kept,
        rows_scale_before_pruning,
        rows_zero_rows,
        rows_without_scale,
        rows_ties_down,
        rows_ties_up,
        rows_down,
    ],
}
