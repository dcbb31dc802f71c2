"""Write ``docs/_static/report.html``, a report with a module at fault, and its pictures in both themes.

    python tools/report_picture.py

Needs PyTorch, and for the pictures Chromium. tests/docs/test_report_picture_torch.py fails if the look, the modules or
the verdicts of the committed page differ.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

from polylogit.porting import Isolation, isolate

STATIC = Path(__file__).resolve().parents[1] / "docs" / "_static"
PAGE = STATIC / "report.html"
PICTURES = {STATIC / "report.png": [], STATIC / "report-dark.png": ["--blink-settings=preferredColorScheme=0"]}
WIDTH, HEIGHT = 1000, 990  # down to the end of the tree
LAYERS, SIZE, HEADS, VOCABULARY = 8, 32, 4, 50
AT_FAULT = 5


class Attention(torch.nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (torch.nn.Linear(SIZE, SIZE) for _ in range(4))
        self.scale = scale

    def forward(self, x: Any) -> Any:
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        scores = self.scale * (q @ k.transpose(-1, -2))
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        return self.out((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(-2))


class Block(torch.nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.norm_1, self.attn, self.norm_2 = torch.nn.LayerNorm(SIZE), Attention(scale), torch.nn.LayerNorm(SIZE)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(SIZE, 4 * SIZE), torch.nn.GELU(), torch.nn.Linear(4 * SIZE, SIZE)
        )

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Decoder(torch.nn.Module):
    """A small language model; in a port, one layer divides its scores by the wrong number."""

    def __init__(self, *, ported: bool) -> None:
        super().__init__()
        right, wrong = (SIZE // HEADS) ** -0.5, SIZE**-0.5
        self.embed = torch.nn.Embedding(VOCABULARY, SIZE)
        self.h = torch.nn.ModuleList(Block(wrong if ported and layer == AT_FAULT else right) for layer in range(LAYERS))
        self.norm, self.head = torch.nn.LayerNorm(SIZE), torch.nn.Linear(SIZE, VOCABULARY)

    def forward(self, tokens: Any) -> Any:
        x = self.embed(tokens)
        for block in self.h:
            x = block(x)
        return self.head(self.norm(x))


def found() -> Isolation:
    """The comparison that the page reports."""
    torch.manual_seed(0)
    original, port = Decoder(ported=False).eval(), Decoder(ported=True).eval()
    port.load_state_dict(original.state_dict())
    return isolate(original, port, torch.randint(0, VOCABULARY, (2, 12)).numpy())


def main() -> None:
    found().to_html(PAGE)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("the page is written; for its pictures install Chromium")
    for picture, theme in PICTURES.items():
        with tempfile.TemporaryDirectory() as profile:
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
            shot = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", PAGE.as_uri()]
            subprocess.run([chromium, *options, *theme, *shot], check=True, capture_output=True)


if __name__ == "__main__":
    main()
