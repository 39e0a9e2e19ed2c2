"""Writes the models beside this file: python make.py (transformers, torch)."""
import json
import pathlib
import shutil

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = pathlib.Path(__file__).parent
TOKENS = [256] + list(b"The same numbers, from another program.")
ROWS = [0, 17, len(TOKENS) - 1]
SHAPE = dict(vocab_size=257, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=256, eos_token_id=256,
             pad_token_id=None)


def save(name, model, dtype, shard="1GB"):
    """Large weights, so that every part matters; representable in dtype, so that the logits are the file's."""
    with torch.no_grad():
        for key, value in model.named_parameters():
            size = 1.0 if "embed" in key else 0.3
            drawn = torch.randn(value.shape) * size + (1.0 if "norm" in key else 0.0)
            value.copy_(drawn.to(dtype).float())
        logits = model.eval()(torch.tensor([TOKENS])).logits[0]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    golden = dict(tokens=TOKENS, rows=ROWS, logits=[[round(x, 6) for x in logits[row].tolist()] for row in ROWS])
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)


torch.manual_seed(7)
save("llama3", LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=6, rope_parameters=dict(
    rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16))), torch.bfloat16, "9KB")
save("tied", LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_parameters=dict(
    rope_type="linear", rope_theta=300.0, factor=2.0))), torch.float16)
save("qwen2", Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True, rope_parameters=dict(
    rope_type="default", rope_theta=700.0))), torch.bfloat16)
