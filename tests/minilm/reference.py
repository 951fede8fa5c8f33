#!/usr/bin/env python3
"""Makes the vectors that `crates/cocoon-llm/tests/it/minilm.rs` compares with.

    python reference.py FOLDER > reference.json

FOLDER holds `model.safetensors` and `tokenizer.json` of all-MiniLM-L6-v2. This is the whole of the model written down
a second time, in 64-bit numpy, sharing no code with the Rust one: BERT, the mean over the tokens, length 1.
Needs `numpy` and Hugging Face's `tokenizers`.
"""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
TEXTS = [
    "The capital of France is Paris.",
    "Wie heißt die Hauptstadt von Österreich? 維也納!",
    'fn main() { println!("{}", 0xdead_beef); }',
    "word " * 254,
]


def weights(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    tensors = {name: info for name, info in header.items() if info.get("dtype") == "F32"}
    return {
        name: np.frombuffer(data[slice(*info["data_offsets"])], "<f4").reshape(info["shape"]).astype(np.float64)
        for name, info in tensors.items()
    }


class Bert:
    def __init__(self, folder):
        self.weights = weights(folder / "model.safetensors")

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def layer(self, x, name):
        def heads(part):
            return self.linear(x, f"{name}.attention.self.{part}").reshape(len(x), HEADS, -1).transpose(1, 0, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = (scores @ value).transpose(1, 0, 2).reshape(len(x), WIDTH)
        x = self.norm(x + self.linear(attended, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        hidden = self.linear(x, f"{name}.intermediate.dense")
        hidden = hidden / 2 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        return self.norm(x + self.linear(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def embed(self, ids):
        table = lambda name: self.weights[f"embeddings.{name}_embeddings.weight"]
        x = self.norm(table("word")[ids] + table("position")[: len(ids)] + table("token_type")[0], "embeddings.LayerNorm")
        for index in range(LAYERS):
            x = self.layer(x, f"encoder.layer.{index}")
        mean = x.mean(0)
        return mean / np.linalg.norm(mean)


def main():
    folder = Path(sys.argv[1])
    tokenizer, bert = Tokenizer.from_file(str(folder / "tokenizer.json")), Bert(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        vector = [round(float(value), 7) for value in bert.embed(ids)]
        rows.append(json.dumps({"text": text, "ids": ids, "vector": vector}, ensure_ascii=False))
    print("[\n" + ",\n".join(rows) + "\n]")


if __name__ == "__main__":
    main()
