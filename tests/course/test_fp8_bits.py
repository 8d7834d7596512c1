"""The FP8 bit explorer: what a byte stands for, what a scale does, and that the picture follows the controls."""

import base64
import math

import pytest
import torch

from prunekit.course import widgets
from prunekit.course.figures import casting
from prunekit.course.widgets.fp8_bits import describe, shares
from prunekit.errors import PrunekitError
from prunekit.method import fp8

both = pytest.mark.parametrize("fmt", [fp8.E4M3, fp8.E5M2], ids=lambda f: f.name)
ALL = range(256)


def weight(seed=0):
    return torch.randn(64, 96, generator=torch.Generator().manual_seed(seed)) * 0.05


def one_code(value, fmt):
    return fp8.encode(torch.tensor([value]), fmt).item()


@both
def test_value_and_neighbours_of_every_byte(fmt):
    values = fp8.decode(torch.arange(256).to(torch.uint8), fmt)
    numbers = sorted(set(values[values.isfinite()].tolist()))
    for code in ALL:
        about, value = describe(code, fmt), values[code].item()
        if not math.isfinite(value):
            assert math.isnan(value) == math.isnan(about.value) and math.isnan(about.low)
            continue
        place = numbers.index(value)
        assert about.value == value
        assert about.below == (numbers[place - 1] if place else -math.inf)
        assert about.above == (numbers[place + 1] if place + 1 < len(numbers) else math.inf)


@both
def test_the_rounding_interval_is_where_the_cast_rounds_to_this_value(fmt):
    for code in ALL:
        about = describe(code, fmt)
        if not math.isfinite(about.value):
            continue
        for end, outwards in ((about.low, -math.inf), (about.high, math.inf)):
            if not math.isfinite(end):
                assert fp8.decode(torch.tensor([one_code(math.copysign(1e9, end), fmt)]), fmt).item() == about.value
                continue
            point = torch.tensor(end)
            inside = point.nextafter(torch.tensor(about.value)).item()
            outside = point.nextafter(torch.tensor(outwards)).item()
            back = [fp8.decode(torch.tensor([one_code(x, fmt)]), fmt).item() for x in (end, inside, outside)]
            assert (back[0] == about.value) == about.closed
            assert back[1] == about.value and back[2] != about.value


@pytest.mark.parametrize("code", [-1, 256])
def test_what_is_no_byte_is_refused(code):
    with pytest.raises(PrunekitError):
        describe(code, fp8.E4M3)
    with pytest.raises(PrunekitError):
        widgets.fp8_bits(weight(), code=code)


@pytest.mark.parametrize("W", [torch.zeros(3, 3), torch.tensor([1.0, math.nan]), torch.ones(0)])
def test_a_weight_without_a_histogram_is_refused(W):
    with pytest.raises(PrunekitError):
        widgets.fp8_bits(W)


def test_shares_on_numbers_that_can_be_counted_by_hand():
    W = torch.tensor([0.0, 448.0, 449.0, -1e6, 2.0**-6, 2.0**-7, -(2.0**-9), 2.0**-10])
    found = shares(W, 1.0, fp8.E4M3)
    assert (found.saturated, found.subnormal, found.underflow) == (2 / 8, 2 / 8, 1 / 8)  # 2^-10 is a tie: to zero
    assert found.error == pytest.approx((1e6 - 448) / 1e6, rel=1e-3)


@both
def test_the_usual_scale_saturates_nothing(fmt):
    W = weight()
    scale = fp8.scales(W, fmt, "tensor")
    found = shares(W, scale.item(), fmt)
    assert found.saturated == 0
    back = fp8.uncast(fp8.cast(W, scale, fmt), scale)
    assert found.error == pytest.approx(((back - W).norm() / W.norm()).item(), rel=1e-5)
    assert shares(W, scale.item() / 8, fmt).saturated > 0.1
    assert shares(W, scale.item() * 2.0**40, fmt).underflow == 1


def test_the_picture_follows_every_control():
    live = widgets.fp8_bits(weight(), name="a test weight")
    pictures = [live.image]
    assert "0x43 in E4M3 stands for 2.75" in live.alt and "a test weight" in live.alt
    assert "All but 1 % of the weights lie within" in live.alt
    for name, value in (("bit0", False), ("format", "e5m2"), ("bit7", True), ("power", -4.0), ("power", 15.0)):
        live.controls[name].value = value
        assert live.image not in pictures, name
        pictures.append(live.image)
    assert "0xC2 in E5M2 stands for -3" in live.alt
    assert live.controls["bit7"].description == "1" and live.controls["bit0"].description == "0"


@pytest.mark.parametrize("code", [0x00, 0x80, 0x01, 0x7B, 0x7C, 0x7E, 0x7F, 0xFB, 0xFC, 0xFF])
@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
def test_special_bytes_are_drawn(code, name):
    live = widgets.fp8_bits(weight(), code=code)
    live.controls["format"].value = name
    live.draw_now()
    assert f"0x{code:02X}" in live.alt and "<img" in live.image


def test_a_place_without_kernel_gets_a_picture():
    content, metadata = widgets.fp8_bits(weight())._repr_mimebundle_()
    assert base64.b64decode(content["image/png"]).startswith(b"\x89PNG")
    assert "0x43" in metadata["image/png"]["alt"]
    assert "application/vnd.jupyter.widget-view+json" in content


def test_a_change_draws_once():
    live = widgets.fp8_bits(weight())
    draw, drawn = live.draw, []
    live.draw = lambda **values: drawn.append(values) or draw(**values)
    live.controls["power"].value = 2.0
    assert [values["power"] for values in drawn] == [2.0]


@both
def test_formulas_are_right(fmt):
    for code in ALL:
        text, value = casting.formula(code, fmt), fp8.decode(torch.tensor([code]), fmt).item()
        if math.isfinite(value):
            left = text.split(" = ")[0].replace("^", "**").replace(" x ", " * ")
            assert eval(left) == value
        else:
            assert "set aside" in text
