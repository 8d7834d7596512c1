"""FP8 by its bits, against torch's own cast and against trying all 256 codes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunekit.errors import PrunekitError
from prunekit.method import fp8
from prunekit.method.fp8 import E4M3, E5M2, cast, decode, encode, expand_scale, format_named, scales, uncast

both = pytest.mark.parametrize("fmt", [E4M3, E5M2], ids=lambda f: f.name)
formats = st.sampled_from([E4M3, E5M2])
seeds = st.integers(0, 2**32 - 1)
ALL_CODES = torch.arange(256).to(torch.uint8)
ALL_BFLOAT16 = torch.arange(2**16).to(torch.int32).to(torch.int16).view(torch.bfloat16)
SHAPES = [(1, 1), (3, 5), (128, 128), (129, 127), (130, 300), (1, 257), (256, 1)]


def weight(seed, rows, columns):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=g), torch.rand(rows, columns, generator=g) < 0.4


def saturated(x, fmt):
    """What torch's cast gives once nothing is too large for it, as codes."""
    return x.float().clamp(-fmt.max, fmt.max).to(fmt.dtype).view(torch.uint8)


def values_and_halfway_ties(fmt):
    """Each code's value, the middle between each and the next, and the float32 neighbours of all of them."""
    finite = decode(ALL_CODES[:128], fmt)
    finite = finite[finite.isfinite()]
    points = torch.cat([finite, (finite[:-1] + finite[1:]) / 2, torch.tensor([fmt.max * 1.01, fmt.max * 9, 3e38])])
    around = [points, points.nextafter(torch.tensor(torch.inf)), points.nextafter(torch.tensor(0.0))]
    return torch.cat([*around, *(-p for p in around)])


def check_encode(function):
    """`function` gives the code that torch's cast gives after clamping, for both formats."""
    for fmt in (E4M3, E5M2):
        infinities = torch.tensor([torch.inf, -torch.inf])
        for x in (ALL_BFLOAT16, values_and_halfway_ties(fmt), infinities):
            before = x.clone()
            codes = function(x, fmt)
            assert codes.dtype == torch.uint8 and codes.shape == x.shape
            number = ~x.isnan()
            assert torch.equal(x[number], before[number])
            assert torch.equal(codes[number], saturated(x, fmt)[number])
            assert (codes[~number] & 0x7F == 0x7F).all()


def test_encode_agrees_with_torch_on_every_bfloat16_and_halfway_tie():
    check_encode(encode)


@both
def test_all_codes_decode_as_torch_reads_them(fmt):
    mine, torchs = decode(ALL_CODES, fmt), ALL_CODES.view(fmt.dtype).float()
    assert mine.dtype == torch.float32
    assert torch.equal(mine.isnan(), torchs.isnan())
    number = ~mine.isnan()
    assert torch.equal(mine[number].view(torch.int32), torchs[number].view(torch.int32))  # with the sign of zero


@both
def test_the_constants_of_a_format_follow_from_its_bits(fmt):
    info = torch.finfo(fmt.dtype)
    assert fmt.max == info.max and 2.0**fmt.min_exponent == info.smallest_normal
    assert 1 + fmt.exponent_bits + fmt.mantissa_bits == 8 and fmt.bias == 2 ** (fmt.exponent_bits - 1) - 1
    assert decode(ALL_CODES, fmt).isinf().any() == fmt.has_inf
    assert format_named(fmt.name) is fmt


@both
def test_decoding_and_encoding_gives_every_code_back(fmt):
    value = decode(ALL_CODES, fmt)
    finite = value.isfinite()
    assert torch.equal(encode(value, fmt)[finite], ALL_CODES[finite])
    assert torch.equal(encode(value, fmt, saturate=False)[~value.isnan()], ALL_CODES[~value.isnan()])


def test_e5m2_without_saturation_is_torchs_own_cast():
    codes = encode(ALL_BFLOAT16, E5M2, saturate=False)
    number = ~ALL_BFLOAT16.isnan()
    assert torch.equal(codes[number], ALL_BFLOAT16.float().to(E5M2.dtype).view(torch.uint8)[number])
    assert decode(codes[~number], E5M2).isnan().all()


def test_e4m3_without_saturation_overflows_to_nan_beyond_the_last_tie():
    x = ALL_BFLOAT16.float()
    codes = encode(x, E4M3, saturate=False)
    fits = x.abs() <= 464  # halfway between 448 and the 480 that the NaN code would be; the tie goes to 448
    assert torch.equal(codes[fits], saturated(x, E4M3)[fits])
    assert torch.equal(codes[x > 464], torch.full_like(codes[x > 464], 0x7F))
    assert torch.equal(codes[x < -464], torch.full_like(codes[x < -464], 0xFF))
    just_above = torch.tensor([464.0]).nextafter(torch.tensor([500.0]))
    assert encode(just_above, E4M3, saturate=False).item() == 0x7F


@both
def test_nan_infinity_and_zero_keep_their_sign(fmt):
    x = torch.tensor([torch.nan, -torch.nan, torch.inf, -torch.inf, 0.0, -0.0])
    largest = encode(torch.tensor(fmt.max), fmt).item()
    assert encode(x, fmt).tolist() == [0x7F, 0xFF, largest, 0x80 | largest, 0, 0x80]
    overflow = 0x7C if fmt.has_inf else 0x7F
    assert encode(x, fmt, saturate=False).tolist() == [0x7F, 0xFF, overflow, 0x80 | overflow, 0, 0x80]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=64), formats)
def test_encode_agrees_with_torch_on_any_float32(values, fmt):
    x = torch.tensor(values)
    assert torch.equal(encode(x, fmt), saturated(x, fmt))


@given(seeds, st.integers(-30, 18), formats)
def test_encode_agrees_with_torch_at_every_scale(seed, power, fmt):
    x = weight(seed, 8, 64)[0] * 2.0**power
    assert torch.equal(encode(x, fmt), saturated(x, fmt))


@given(seeds, st.integers(-24, 18), formats)
def test_encode_finds_the_nearest_of_all_values_and_the_even_code_of_two(seed, power, fmt):
    x = (weight(seed, 1, 64)[0][0] * 2.0**power).clamp(-fmt.max, fmt.max)
    x = torch.cat([x, values_and_halfway_ties(fmt)[seed % 97 :: 97].clamp(-fmt.max, fmt.max)])
    table = decode(ALL_CODES, fmt).double()
    distance = (x.double()[:, None] - table).abs().nan_to_num(torch.inf)
    codes = encode(x, fmt).long()
    chosen = distance.gather(1, codes[:, None])
    assert torch.equal(chosen[:, 0], distance.amin(1))
    # Codes of the same distance and sign: where there are two, the chosen one is even.
    rivals = (distance == chosen) & (codes[:, None] >> 7 == ALL_CODES >> 7)
    assert (codes[rivals.sum(1) == 2] % 2 == 0).all()


@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=64), formats)
def test_a_larger_value_never_gets_a_smaller_code(values, fmt):
    x = torch.tensor(sorted(values))
    assert (decode(encode(x, fmt), fmt).diff() >= 0).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=64), formats)
def test_encoding_twice_changes_nothing_and_the_sign_only_sets_its_bit(values, fmt):
    x = torch.tensor(values)
    codes = encode(x, fmt)
    assert torch.equal(encode(decode(codes, fmt), fmt), codes)
    assert torch.equal(encode(-x, fmt), codes ^ 0x80)


@both
def test_encode_takes_any_shape_layout_and_float_dtype(fmt):
    W = weight(0, 6, 10)[0]
    for x in (W.T, W[:, ::3], W[0, 0], W[:0], W.half(), W.bfloat16(), W.double()):
        assert torch.equal(encode(x, fmt), saturated(x.contiguous(), fmt))
        assert decode(encode(x, fmt), fmt).shape == x.shape


# Scales.


def check_scales(function):
    """A scale for each tensor, row or 128 x 128 block: its largest survivor over the format's maximum."""
    for fmt in (E4M3, E5M2):
        for rows, columns in SHAPES:
            W, keep = weight(7, rows, columns)
            keep[rows // 2] = False
            before = W.clone(), keep.clone()
            alive = (W * keep).abs()
            regions = {
                "tensor": [[alive]],
                "row": [[row] for row in alive],
                "block": [list(strip.split(128, 1)) for strip in alive.split(128, 0)],
            }
            for granularity, grid in regions.items():
                scale = function(W, fmt, granularity, keep)
                expected = torch.tensor(
                    [[region.max() / fmt.max if region.any() else 1.0 for region in line] for line in grid]
                )
                assert torch.equal(W, before[0]) and torch.equal(keep, before[1])
                assert scale.dtype == torch.float32 and scale.shape == expected.shape
                torch.testing.assert_close(scale, expected, rtol=1e-6, atol=0)


def test_scales_come_from_the_survivors_of_each_region():
    check_scales(scales)


@both
@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
def test_without_a_mask_every_weight_counts(fmt, granularity):
    W = weight(1, 130, 140)[0]
    assert torch.equal(scales(W, fmt, granularity), scales(W, fmt, granularity, torch.ones_like(W, dtype=torch.bool)))
    assert torch.equal(scales(W.bfloat16(), fmt, granularity), scales(W.bfloat16().float(), fmt, granularity))


@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
def test_where_nothing_survives_the_scale_is_one(granularity):
    W = torch.randn(200, 200)
    assert (scales(W, E4M3, granularity, torch.zeros_like(W, dtype=torch.bool)) == 1).all()
    assert (scales(torch.zeros(200, 200), E4M3, granularity) == 1).all()


@both
def test_weights_too_small_to_have_a_scale_do_not_divide_by_zero(fmt):
    W = torch.tensor([[1e-45, 0.0], [-1e-40, 1e-45], [1e-38, 1e-37]])
    scale = scales(W, fmt)
    assert (scale >= torch.finfo(torch.float32).tiny).all()
    assert uncast(cast(W, scale, fmt), scale).isfinite().all()


def test_an_unknown_format_or_granularity_is_named_with_the_known_ones():
    with pytest.raises(PrunekitError, match=r"'fp8'.*e4m3, e5m2"):
        format_named("fp8")
    with pytest.raises(PrunekitError, match=r"'column'.*tensor, row, block"):
        scales(torch.ones(2, 2), E4M3, "column")


def test_what_is_not_said_is_e4m3_saturated_with_a_scale_for_each_row():
    W = weight(6, 130, 140)[0] * 1000
    assert torch.equal(encode(W), encode(W, E4M3, saturate=True))
    assert torch.equal(decode(encode(W)), decode(encode(W), E4M3))
    assert torch.equal(scales(W), scales(W, E4M3, "row"))
    assert cast(W, scales(W)).dtype == E4M3.dtype


@both
def test_codes_of_the_other_kind_are_refused(fmt):
    codes = cast(torch.ones(2, 3), torch.ones(1, 1), fmt)
    for floating in (codes, torch.ones(2, 3)):
        with pytest.raises(PrunekitError, match=r"codes are .* expected bytes"):
            decode(floating, fmt)
    for no_float8 in (codes.view(torch.uint8), torch.ones(2, 3)):
        with pytest.raises(PrunekitError, match=r"codes are .* expected FP8"):
            uncast(no_float8, torch.ones(1, 1))
    assert uncast(codes, torch.ones(1, 1)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(130, 2), (1, 140), (1, 2), (2, 1), (3, 2), (2, 3), (130,), ()], ids=str)
def test_scales_of_no_granularity_are_refused_even_where_they_would_broadcast(shape):
    W = torch.ones(130, 140)
    for call in (lambda scale: cast(W, scale), lambda scale: uncast(W.to(E4M3.dtype), scale)):
        with pytest.raises(PrunekitError, match=r"the scale has the shape .* expected \[1, 1\], \[130, 1\]"):
            call(torch.ones(shape))


def test_a_scale_says_how_many_weights_share_it():
    for shape, blocks in {(1, 1): (130, 140), (130, 1): (1, 140), (2, 2): (128, 128)}.items():
        assert fp8.scale_blocks(torch.ones(shape), (130, 140)) == blocks


@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_expanded_scales_cover_each_weight_with_its_own(shape, granularity):
    W = weight(2, *shape)[0]
    scale = scales(W, E4M3, granularity)
    full = expand_scale(scale, W.shape).expand(W.shape)
    side = {"tensor": shape, "row": (1, shape[1]), "block": (128, 128)}[granularity]
    for i, j in {(0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, shape[1] // 3)}:
        assert full[i, j] == scale[i // side[0], j // side[1]]


# Casting a weight.


def check_cast(function):
    """What is pruned becomes code 0, what is too large the largest value, the rest is W / scale rounded."""
    for fmt in (E4M3, E5M2):
        for granularity in fp8.GRANULARITIES:
            W, keep = weight(3, 140, 150)
            W[0, 0], keep[0, 0] = 30.0, False
            W[1, 1], keep[1, 1] = -30.0, True
            before = W.clone(), keep.clone()
            for scale in (scales(W, fmt, granularity, keep), scales(W, fmt, granularity, keep) / 16):
                codes = function(W, scale, fmt, keep)
                expected = encode(W / expand_scale(scale, W.shape), fmt)
                assert torch.equal(W, before[0]) and torch.equal(keep, before[1])
                assert codes.dtype == fmt.dtype and codes.shape == W.shape
                assert torch.equal(codes.view(torch.uint8), torch.where(keep, expected, 0).to(torch.uint8))
                assert codes.float().isfinite().all()


def test_cast_rounds_what_survives_and_saturates():
    check_cast(cast)


@given(seeds, formats, st.sampled_from(fp8.GRANULARITIES), st.integers(1, 150), st.integers(1, 150))
def test_the_error_of_a_cast_stays_within_half_a_step(seed, fmt, granularity, rows, columns):
    W, keep = weight(seed, rows, columns)
    W = W**3
    scale = scales(W, fmt, granularity, keep)
    back, full = uncast(cast(W, scale, fmt, keep), scale), expand_scale(scale, W.shape).expand(W.shape)
    error = (back - W).abs()
    normal = keep & (W.abs() >= full * 2.0**fmt.min_exponent)
    half_step = {E4M3: 2.0**-4, E5M2: 2.0**-3}[fmt]
    assert (error <= W.abs() * half_step * (1 + 1e-5))[normal].all()
    assert (error <= full * 2.0**fmt.min_exponent * half_step * (1 + 1e-5))[keep & ~normal].all()
    assert (back[~keep] == 0).all() and not back[~keep].signbit().any()


@both
@pytest.mark.parametrize("granularity", fp8.GRANULARITIES)
def test_the_largest_survivor_becomes_the_largest_value(fmt, granularity):
    W, keep = weight(4, 200, 130)
    codes = cast(W, scales(W, fmt, granularity, keep), fmt, keep)
    assert codes.float().abs().max() == fmt.max
    if granularity == "row":
        assert (codes.float().abs().amax(1) == fmt.max).all()


@given(seeds, formats, st.integers(-60, 60))
def test_codes_do_not_see_a_power_of_two(seed, fmt, power):
    W, keep = weight(seed, 4, 40)
    codes = [cast(V, scales(V, fmt, "row", keep), fmt, keep).view(torch.uint8) for V in (W, W * 2.0**power)]
    assert torch.equal(*codes)


@given(seeds, formats, st.sampled_from(fp8.GRANULARITIES))
def test_casting_twice_changes_nothing(seed, fmt, granularity):
    W, keep = weight(seed, 20, 30)
    scale = scales(W, fmt, granularity, keep)
    codes = cast(W, scale, fmt, keep)
    assert torch.equal(cast(uncast(codes, scale), scale, fmt, keep).view(torch.uint8), codes.view(torch.uint8))


@both
def test_zeros_stay_exact_zeros_and_narrow_dtypes_are_widened(fmt):
    W = torch.tensor([[0.0, 1.0, -0.0, 1e-20]])
    scale = scales(W, fmt)
    assert uncast(cast(W, scale, fmt), scale).tolist() == [[0, pytest.approx(1, rel=1e-6), 0, 0]]
    W = weight(5, 4, 40)[0].bfloat16()
    assert torch.equal(cast(W, scale, fmt).view(torch.uint8), cast(W.float(), scale, fmt).view(torch.uint8))


@both
def test_wide_weights_are_rounded_to_float32_first(fmt):
    scale = weight(8, 300, 1)[0].abs() + 0.1
    W = scale.double() * (1 + 2.0 ** -(fmt.mantissa_bits + 1))  # halfway between two codes
    assert torch.equal(cast(W, scale, fmt).view(torch.uint8), cast(W.float(), scale, fmt).view(torch.uint8))
    assert torch.equal(scales(W, fmt), scales(W.float(), fmt))


# What a wrong implementation looks like, and that the checks above would notice.


def rounded_by(choose):
    """An `encode` whose magnitudes become codes through `choose(magnitude, finite values)`."""

    def wrong(x, fmt):
        values = decode(ALL_CODES[:128], fmt)
        values = values[values.isfinite()]
        code = choose(x.float().abs().clamp(max=fmt.max), values, fmt)
        code = torch.where(x.isnan(), 0x7F, code)
        return (code | x.signbit().int() << 7).to(torch.uint8)

    return wrong


def nearest(magnitude, values, fmt, ties_up):
    return torch.bucketize(magnitude, (values[:-1] + values[1:]) / 2, right=ties_up)


halves_away_from_zero = rounded_by(lambda a, values, fmt: nearest(a, values, fmt, True))
halves_towards_zero = rounded_by(lambda a, values, fmt: nearest(a, values, fmt, False))
truncated = rounded_by(lambda a, values, fmt: torch.bucketize(a, values, right=True) - 1)
subnormals_flushed = rounded_by(lambda a, values, fmt: encode(a * (a >= 2.0**fmt.min_exponent), fmt).int())
rounded_twice = rounded_by(lambda a, values, fmt: encode(a.half().float(), fmt).int())
right_but_by_table = rounded_by(lambda a, values, fmt: encode(a, fmt).int())


def not_clamped(x, fmt):
    return encode(x, fmt, saturate=False)


def sign_of_zero_lost(x, fmt):
    return torch.where(x == 0, 0, encode(x, fmt)).to(torch.uint8)


def nan_becomes_zero(x, fmt):
    return encode(x.nan_to_num(0.0, torch.inf, -torch.inf), fmt)


def other_format(x, fmt):
    return encode(x, E5M2 if fmt is E4M3 else E4M3)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(halves_away_from_zero, id="halves_away_from_zero"),
        pytest.param(halves_towards_zero, id="halves_towards_zero"),
        pytest.param(truncated, id="truncated"),
        pytest.param(subnormals_flushed, id="subnormals_flushed"),
        pytest.param(rounded_twice, id="rounded_twice"),
        not_clamped,
        sign_of_zero_lost,
        nan_becomes_zero,
        other_format,
    ],
)
def test_the_check_of_encoding_rejects(wrong):
    with pytest.raises(AssertionError):
        check_encode(wrong)


def test_the_tables_are_wrong_only_by_how_they_round():
    check_encode(right_but_by_table)


def from_all_weights(W, fmt, granularity, keep):
    return scales(W, fmt, granularity)


def from_signed_weights(W, fmt, granularity, keep):
    return scales(W.clamp_min(0), fmt, granularity, keep)


def over_columns(W, fmt, granularity, keep):
    return scales(W.T, fmt, granularity, keep.T)


def over_twice_the_largest_value(W, fmt, granularity, keep):
    return scales(W, fmt, granularity, keep) / 2


def zero_where_nothing_survives(W, fmt, granularity, keep):
    scale = scales(W, fmt, granularity, keep)
    return torch.where(scale == 1, 0.0, scale)


def last_block_dropped(W, fmt, granularity, keep):
    scale = scales(W, fmt, granularity, keep)
    return scale[: max(1, len(W) // 128), : max(1, W.shape[1] // 128)] if granularity == "block" else scale


@pytest.mark.parametrize(
    "wrong",
    [
        from_all_weights,
        from_signed_weights,
        over_columns,
        over_twice_the_largest_value,
        zero_where_nothing_survives,
        last_block_dropped,
    ],
)
def test_the_check_of_scales_rejects(wrong):
    with pytest.raises(AssertionError):
        check_scales(wrong)


def cast_without_clamping(W, scale, fmt, keep):
    return encode(torch.where(keep, W / expand_scale(scale, W.shape), 0.0), fmt, saturate=False).view(fmt.dtype)


def cast_by_multiplying(W, scale, fmt, keep):
    return cast(W, 1 / scale, fmt, keep)


def cast_of_pruned_weights_too(W, scale, fmt, keep):
    return cast(W, scale, fmt)


def cast_with_one_scale(W, scale, fmt, keep):
    return cast(W, scale.amax().reshape(1, 1), fmt, keep)


def cast_with_negative_zeros(W, scale, fmt, keep):
    return cast(W * keep, scale, fmt)


@pytest.mark.parametrize(
    "wrong",
    [
        cast_without_clamping,
        cast_by_multiplying,
        cast_of_pruned_weights_too,
        cast_with_one_scale,
        cast_with_negative_zeros,
    ],
)
def test_the_check_of_casting_rejects(wrong):
    with pytest.raises(AssertionError):
        check_cast(wrong)
