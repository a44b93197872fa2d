"""Host memory of a published language model: mapped from its file in the dtype it was published in, so that
the ranks of a host share its pages, and made fp32 only where it is moved to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from factories import make_job, make_llm, make_mixture, make_recipe, make_tokenizer, make_world
from safetensors.torch import load_file, save_file
from test_models_packing import PAIRS, losses_of, make_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from granvit.config.compute import RunCompute
from granvit.config.schema import LLMSpec
from granvit.errors import GranvitError
from granvit.models import llms, loading
from granvit.models.llms import cast_weights, load_llm
from granvit.models.mllm import MLLM
from granvit.training.run import train
from granvit.training.speed import prepare_model

TESTS = Path(__file__).resolve().parent
MEGABYTES = """
import json, sys
from granvit.config.schema import LLMSpec
from granvit.models.llms import load_llm

def own():  # memory that no file stands behind, so that each process has its own
    rows = (line.split() for line in open("/proc/self/smaps_rollup"))
    return next(int(row[1]) / 1024 for row in rows if row[0] == "Anonymous:")

def peak():
    rows = (line.split() for line in open("/proc/self/status"))
    return next(int(row[1]) / 1024 for row in rows if row[0] == "VmHWM:")

load_llm(LLMSpec(path=sys.argv[1]))
before, most = own(), peak()
llm = load_llm(LLMSpec(path=sys.argv[2]))
read = sum(float(weight.abs().max()) for weight in llm.parameters())
print(json.dumps([own() - before, peak() - most]))
"""


def publish_bf16(folder: Path) -> LLMSpec:
    """Round the weights of an LLM's folder, as Qwen2.5 and LLaMA3 are published; its config says nothing."""
    file = folder / "model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(file).items()}, file, {"format": "pt"})
    return LLMSpec(path=str(folder))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="asks Linux for a process's memory")
def test_a_published_bf16_llm_costs_a_process_next_to_no_memory_of_its_own(tmp_path):
    small = make_llm(tmp_path / "small")
    tokenizer, large = make_tokenizer(), tmp_path / "large"
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=4096, num_hidden_layers=7,
        num_attention_heads=16, num_key_value_heads=4, tie_word_embeddings=True, bos_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    model.to_empty(device="cpu").bfloat16().save_pretrained(large)
    size = (large / "model.safetensors").stat().st_size / 2**20
    assert size > 200
    paths = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", MEGABYTES, small.path, str(large)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own, peak = json.loads(done.stdout.splitlines()[-1])
    assert own < 0.1 * size and peak < 1.3 * size  # 2.0 and 3.0 where it is read as fp32


def test_an_llm_keeps_the_dtype_of_its_file_whatever_its_config_says(tmp_path):
    spec = make_llm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    assert {weight.dtype for weight in load_llm(spec).parameters()} == {torch.float32}
    publish_bf16(tmp_path)
    llm = load_llm(spec)
    assert {weight.dtype for weight in llm.parameters()} == {torch.bfloat16}
    assert llm.model.rotary_emb.inv_freq.dtype == torch.float32
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].float() + 1e-4  # bf16 would lose it
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    mixed = load_llm(spec)
    assert {weight.dtype for weight in mixed.parameters()} == {torch.float32}
    assert mixed.model.norm.weight.equal(weights["model.norm.weight"])


def test_dtype_of_a_hub_id_is_that_of_its_files_too_or_the_hub_is_named(tmp_path, monkeypatch):
    spec = publish_bf16(Path(make_llm(tmp_path).path))
    asked = []
    monkeypatch.setattr(loading, "snapshot_download", lambda path, **wanted: asked.append(path) or tmp_path)

    def load(model_class, path, what, dtype):
        asked.append((path, dtype))
        return SimpleNamespace(eval=lambda: None)

    monkeypatch.setattr(llms, "load_pretrained", load)
    load_llm(LLMSpec(path="owner/name"))
    load_llm(spec)
    assert asked == ["owner/name", ("owner/name", torch.bfloat16), (spec.path, torch.bfloat16)]

    def offline(path, **wanted):
        raise OSError("no connection.")

    monkeypatch.setattr(loading, "snapshot_download", offline)
    with pytest.raises(GranvitError, match="llm: cannot get 'owner/name' from the hub: no connection"):
        load_llm(LLMSpec(path="owner/name"))


@pytest.mark.parametrize(
    ("stage", "precision", "dtype"),
    [
        ("stage1", "bf16", torch.bfloat16), ("stage1", "fp32", torch.float32),
        ("sft", "bf16", torch.float32), ("sft", "fp32", torch.float32),
    ],
)  # fmt: skip
def test_a_bf16_llm_learns_in_fp32_and_stays_bf16_where_frozen(tmp_path, stage, precision, dtype):
    world = make_world(tmp_path)
    world.llm = publish_bf16(tmp_path / "llm")
    published = load_file(tmp_path / "llm" / "model.safetensors")
    tasks = ("instruction",) if stage == "sft" else ("global_caption", "bbox2caption")
    mixture = make_mixture(tmp_path / "m.parquet", 4, tasks)
    recipe, compute = make_recipe(stage, precision=precision), RunCompute(frozen_bf16=True)
    train(make_job(world, recipe, tmp_path, mixture=mixture, compute=compute))
    found = load_file(tmp_path / "run/model/llm/model.safetensors")
    assert {value.dtype for value in found.values()} == {dtype}
    same = [value.float().equal(published[name].float()) for name, value in found.items()]
    assert any(same) == all(same) == (stage == "stage1")
    loaded = MLLM.load(tmp_path / "run/model")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def test_a_bf16_file_gives_the_bits_of_the_same_weights_in_an_fp32_file(tmp_path):
    spec = publish_bf16(Path(make_llm(tmp_path / "bf16").path))
    make_llm(tmp_path / "fp32")
    rounded = {name: value.float() for name, value in load_file(tmp_path / "bf16/model.safetensors").items()}
    save_file(rounded, tmp_path / "fp32" / "model.safetensors", {"format": "pt"})
    half, whole = load_llm(spec), load_llm(LLMSpec(path=str(tmp_path / "fp32")))
    cast_weights(half, torch.float32)
    assert half.state_dict().keys() == whole.state_dict().keys()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in half.state_dict().items())
    assert half.get_output_embeddings().weight is half.get_input_embeddings().weight  # still tied


def test_rotary_frequencies_of_a_frozen_bf16_llm_are_not_rounded(tmp_path):
    """Rounded to bf16, they turn the positions behind an image of 1,024 tokens by whole radians."""
    model, pixels = make_model(tmp_path), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        for weight in model.llm.parameters():
            weight.copy_(weight.bfloat16())
    frequencies = model.llm.model.rotary_emb.inv_freq.clone()
    compute = RunCompute(frozen_bf16=True)
    prepare_model(model, make_recipe("stage1", precision="bf16"), compute, torch.device("cpu"))
    assert next(model.llm.parameters()).dtype == torch.bfloat16
    assert model.llm.model.rotary_emb.inv_freq.equal(frequencies)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses_of(model, PAIRS, pixels)[0].isfinite().all()
