"""GPT-2 in PyTorch, transformers' own port of it to Flax, and what `compare` says of the two.

    pip install ".[ports]"
    python docs/porting/gpt2_to_flax.py

The weights are random and nothing is downloaded.
"""

import tempfile

import torch
import transformers

from polylogit.porting import compare, record

torch.manual_seed(0)
config = transformers.GPT2Config(
    vocab_size=100,
    n_embd=64,
    n_layer=4,
    n_head=4,
    initializer_range=0.15,
    scale_attn_by_inverse_layer_idx=True,
    use_cache=False,
)
original = transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
with tempfile.TemporaryDirectory() as folder:
    original.save_pretrained(folder)
    port = transformers.FlaxGPT2LMHeadModel.from_pretrained(folder, from_pt=True)

tokens = torch.randint(100, (4, 12))
inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

print(compare(original, port, inputs=inputs))

found = compare(record(original), record(port), inputs=inputs)
print(found.first_divergence)
print(found.cause.explanation)
print(found.cause.fix)
