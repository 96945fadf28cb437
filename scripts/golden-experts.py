#!/usr/bin/env python3
"""Vectors of a tiny model with experts, computed in f64 straight from the architecture's formulas.

Usage: golden-experts.py MODEL.gguf OUT.json

MODEL.gguf is a `nomic-bert-moe` whose matrices are Q4_0 and all else F32, as embed-worker/tests/data/hostile/ok-moe.gguf.
Writes a few texts of random ids with their vectors of unit length; texts of which a router's choice is a near tie
are left out, since rounding may decide it.  Needs numpy.
"""
import json
import math
import struct
import sys

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXTS = 8
MARGIN_MIN = 0.01  # between the last expert that is chosen and the first that is not


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 8

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def string(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            element, count = self.take("I"), self.take("Q")
            return [self.value(element) for _ in range(count)]
        return self.take(SCALARS[kind])


def read(data):
    reader = Reader(data)
    tensors, keys = reader.take("QQ")
    metadata = {}
    for _ in range(keys):
        key = reader.string()
        metadata[key] = reader.value(reader.take("I"))
    infos = []
    for _ in range(tensors):
        name, dims = reader.string(), reader.take("I")
        shape = [reader.take("Q") for _ in range(dims)]
        infos.append((name, shape, reader.take("I"), reader.take("Q")))
    alignment = metadata.get("general.alignment", 32)
    base = -(-reader.at // alignment) * alignment
    weights = {}
    for name, shape, kind, offset in infos:
        elements = int(np.prod(shape))
        if kind == 0:
            values = np.frombuffer(data, "<f4", elements, base + offset).astype(float)
        else:
            assert kind == 2, f"{name}: only F32 and Q4_0"
            blocks = np.frombuffer(data, np.uint8, elements // 32 * 18, base + offset).reshape(-1, 18)
            scales, nibbles = blocks[:, :2].copy().view("<f2").astype(float), blocks[:, 2:]
            values = (np.concatenate([nibbles & 15, nibbles >> 4], 1).astype(float) - 8) * scales
        weights[name] = values.reshape(shape[::-1])
    return metadata, weights


def main(model, out):
    metadata, weights = read(open(model, "rb").read())
    key = lambda name: metadata["nomic-bert-moe." + name]
    heads, used, every = key("attention.head_count"), key("expert_used_count"), key("moe_every_n_layers")
    hidden, epsilon = key("embedding_length"), key("attention.layer_norm_epsilon")
    width = hidden // heads
    erf = np.vectorize(math.erf)
    gelu = lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x ** 2).mean(-1, keepdims=True) + epsilon)
        return x * weights[name + ".weight"] + weights[name + ".bias"]

    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def rotate(x):
        pairs = width // 2
        angles = np.arange(len(x))[:, None] * key("rope.freq_base") ** (-2 * np.arange(pairs) / width)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = x[..., :pairs], x[..., pairs:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def embed(ids):
        x, margin = norm(weights["token_embd.weight"][ids], "token_embd_norm"), 1.0
        for layer in range(key("block_count")):
            part = lambda name: weights[f"blk.{layer}.{name}.weight"]
            q, k, v = (m.reshape(-1, heads, width) for m in np.split(x @ part("attn_qkv").T, 3, 1))
            scores = np.einsum("ihd,jhd->hij", rotate(q), rotate(k)) / math.sqrt(width)
            attended = np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(-1, hidden)
            x = norm(x + attended @ part("attn_output").T, f"blk.{layer}.attn_output_norm")
            if layer % every == 1:
                suits, made = softmax(x @ part("ffn_gate_inp").T), np.zeros_like(x)
                for token, suit in enumerate(suits):
                    best = np.argsort(-suit)
                    margin = min(margin, suit[best[used - 1]] - suit[best[used]])
                    for expert in best[:used]:
                        inner = gelu(part("ffn_up_exps")[expert] @ x[token])
                        made[token] += suit[expert] * (part("ffn_down_exps")[expert] @ inner)
            else:
                made = gelu(x @ part("ffn_up").T) @ part("ffn_down").T
            x = norm(x + made, f"blk.{layer}.layer_output_norm")
        pooled = x.mean(0)
        return pooled / np.linalg.norm(pooled), margin

    random, texts = np.random.default_rng(1), []
    while len(texts) < TEXTS:
        vocabulary, longest = len(weights["token_embd.weight"]), key("context_length")
        ids = random.integers(0, vocabulary, random.integers(1, longest)).tolist()
        vector, margin = embed(ids)
        if margin > MARGIN_MIN:
            texts.append({"ids": ids, "vector": [round(float(value), 7) for value in vector]})
    with open(out, "w") as file:
        json.dump(texts, file, separators=(",", ":"))


main(*sys.argv[1:])
