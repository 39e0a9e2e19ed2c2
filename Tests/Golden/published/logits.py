"""python logits.py FOLDER OUT TOKENS: what transformers computes with an exported model, and with one that it writes.

FOLDER is loaded as anybody would load it. Then the weights are replaced by large random ones, and the model is saved to
OUT, with FOLDER's tokenizer beside it. Prints one JSON object with the logits behind every token of both.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers


def logits(model, tokens):
    with torch.no_grad():
        return model.eval()(torch.tensor([tokens])).logits[0].tolist()


folder, out, tokens = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
model = transformers.AutoModelForCausalLM.from_pretrained(folder)
assert all(value.dtype == torch.float32 for value in model.parameters())
exported = logits(model, tokens)
torch.manual_seed(5)
with torch.no_grad():
    for name, value in model.named_parameters():
        size = 1.0 if "embed" in name else 0.3
        value.copy_(torch.randn(value.shape) * size + (1.0 if "norm" in name else 0.0))
model.save_pretrained(out)
for file in folder.glob("tokenizer*"):
    shutil.copy(file, out)
print(json.dumps(dict(version=transformers.__version__, exported=exported, written=logits(model, tokens))))
