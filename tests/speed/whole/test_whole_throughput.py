from dataclasses import replace

import pytest

from prunekit.errors import PrunekitError
from prunekit.speed.devices import find_gpu
from prunekit.speed.latency import predict
from prunekit.speed.whole.model import find_model
from prunekit.speed.whole.step import SERVER, step
from prunekit.speed.whole.throughput import amdahl, predict_model, stages


def a_step(gpu="RTX 4090", dtype="fp8", tokens=64, seen=100.0, decode=True, **more):
    model = find_model("Qwen2.5-7B")
    return step(find_gpu(gpu), dtype, model, tokens=tokens, sequences=tokens, seen=seen, decode=decode, **more)


def test_the_linear_layers_are_the_latency_models():
    model = find_model("Qwen2.5-7B")
    for sparse24 in (False, True):
        products = [predict("RTX 4090", "fp8", 64, layer.N, layer.K, cold=True) for layer in model.layers]
        expected = 28 * sum(p.sparse24_us if sparse24 else p.dense_us for p in products)
        assert a_step(sparse24=sparse24).linear_us == pytest.approx(expected)


def test_2_4_changes_the_linear_layers_alone():
    dense, sparse24 = a_step(), a_step(sparse24=True)
    assert replace(dense, linear_us=sparse24.linear_us) == sparse24 and dense.us > sparse24.us


def test_only_fp8_casts_and_only_where_tensor_cores_take_it():
    assert a_step().cast_us > 0
    assert a_step(dtype="bf16").cast_us == a_step("A100", "fp8").cast_us == 0
    assert a_step("A100", "fp8").linear_us < a_step("A100", "bf16").linear_us
    assert a_step("A100", "fp8", sparse24=True) is None


def test_the_cache_is_read_once_a_token():
    near, far = a_step(seen=100), a_step(seen=1100)
    share = 1008e3 * SERVER.cache_share
    assert far.attention_us - near.attention_us == pytest.approx(
        64 * 1000 * find_model("Qwen2.5-7B").cache_bytes / share
    )


def test_the_host_stands_beside_a_prefill_step_and_after_a_decode_step():
    for host in (1.0, 1e6):
        prefill, decode = a_step(decode=False, host=host), a_step(host=host)
        assert prefill.us == max(prefill.gpu_us, prefill.host_us)
        assert decode.us == decode.gpu_us + decode.host_us
    assert prefill.bound == decode.bound == "host"


def test_stages_follow_amdahl():
    answer = predict_model("RTX 4090", "fp8", "Qwen2.5-7B", prompt=1024, batch=8)
    for phase in ("prefill", "decode"):
        names = {stage.name: stage for stage in stages(answer, phase)}
        product, linear, blocks, gpu, whole = names.values()
        assert 1 < product.dense_us < linear.dense_us and linear.gain > blocks.gain >= gpu.gain >= whole.gain > 1
        for outer in (blocks, gpu, whole):
            assert outer.gain == pytest.approx(amdahl(linear.dense_us / outer.dense_us, linear.gain))


@pytest.mark.parametrize(("share", "factor", "gain"), [(0, 9, 1), (1, 2, 2), (0.5, 2, 4 / 3)])
def test_amdahl(share, factor, gain):
    assert amdahl(share, factor) == pytest.approx(gain)
    with pytest.raises(PrunekitError, match="a share is 0 to 1"):
        amdahl(share + 1.5, factor)


def test_what_fits():
    small, large = (
        predict_model("RTX 5080", "fp8", name, prompt=512, batch=4) for name in ("Llama3.2-1B", "Qwen2.5-14B")
    )
    assert small.dense.fits and small.dense.seconds
    # As published: 14B is too large for 16 GB, dense.
    assert not large.dense.fits and large.dense.prefill_tokens_per_s is large.dense.seconds is None
    waits = predict_model("RTX 4090", "fp8", "Qwen2.5-14B", prompt=16, batch=256)
    assert waits.dense.fits < 256 and waits.sparse24.decode_tokens_per_s > 1.5 * waits.dense.decode_tokens_per_s


def test_more_prompts_are_never_slower_together():
    rates = [predict_model("RTX 5080", "fp8", "Llama3.2-3B", prompt=64, batch=b).dense for b in (1, 4, 16, 64)]
    for phase in ("prefill_tokens_per_s", "decode_tokens_per_s"):
        found = [getattr(run, phase) for run in rates]
        assert found == sorted(found)


def test_fewer_bytes_are_faster_on_a_card_without_fp8_tensor_cores():
    wide, narrow = (predict_model("RTX 3090", d, "Llama3.2-3B", prompt=16) for d in ("bf16", "fp8"))
    assert narrow.weight_only and narrow.sparse24 is None
    assert 1.2 < narrow.dense.decode_tokens_per_s / wide.dense.decode_tokens_per_s < 2


@pytest.mark.parametrize(
    ("dtype", "more", "says"),
    [
        ("bf16", {"prompt": 32769}, "a prompt of 32769 tokens is longer than the context of Qwen2.5-7B, 32768"),
        ("fp4", {}, "has no fp4 tensor cores; choose fp8 or bf16 or fp16"),
        ("fp8", {"batch": 0}, "batch is 0"),
    ],
)
def test_bad_input_is_one_sentence(dtype, more, says):
    with pytest.raises(PrunekitError, match=says):
        predict_model("RTX 4090", dtype, "Qwen2.5-7B", **more)


def test_stages_need_2_4():
    answer = predict_model("T4", "fp16", "Llama3.2-1B", prompt=16)
    with pytest.raises(PrunekitError, match="no kernel multiplies a 2:4 weight in fp16 on T4"):
        stages(answer)
    with pytest.raises(PrunekitError, match="'prefill' or 'decode'"):
        stages(answer, "both")
