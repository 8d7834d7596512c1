import pytest

from prunekit.errors import PrunekitError
from prunekit.speed.devices import GPUS, find_gpu


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("4070 ti super", "RTX 4070 Ti Super"),
        ("RTX-5080", "RTX 5080"),
        ("H100", "H100 PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("a100", "A100 SXM 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
        ("Tesla T4", "T4"),
    ],
)
def test_a_card_is_found_however_it_is_spelled(name, expected):
    assert find_gpu(name).name == expected


@pytest.mark.parametrize(
    ("name", "near"),
    [("RTX 4091", "RTX 4090"), ("H1000", "H100"), ("rtx 5085", "RTX 5080"), ("4091", "name: RTX 4090")],
)
def test_an_unknown_card_names_its_neighbours(name, near):
    with pytest.raises(PrunekitError, match=near) as error:
        find_gpu(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_every_wanted_card_is_there():
    wanted = "T4,A100,L4,H100 PCIe,H100 SXM,B200,RTX 3060,RTX 3060 Ti,RTX 3070,RTX 3080,RTX 3090,RTX 4060"
    wanted += ",RTX 4060 Ti,RTX 4070,RTX 4080,RTX 4090,RTX 5070,RTX 5070 Ti,RTX 5080,RTX 5090"
    for name in wanted.split(","):
        assert find_gpu(name).source


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_rates_follow_from_clock_and_multiprocessors(gpu):
    """Tensor cores do a power of two of operations a clock: a mistyped rate, clock or count would not fit."""
    ratio = gpu.feed_ratio
    nearest = min((1, 2, 4, 8, 16), key=lambda power: abs(power - ratio))
    # Data-centre peaks are quoted at a clock a little below the boost clock of the data sheet.
    assert ratio == pytest.approx(nearest, rel=0.1 if gpu.server else 0.01)
    if gpu.fp8 is not None:
        assert gpu.fp8 == pytest.approx(2 * gpu.fp16, rel=0.02)
    assert (gpu.fp8 is not None) == (gpu.capability >= (8, 9))
    assert gpu.sparse24 == (gpu.capability >= (8, 0))
