#!/usr/bin/env python3
"""A tiny model of the architecture `llama`, and its vectors computed in f64 straight from the formulas.

Usage: golden-llama.py MODEL.gguf OUT.json

The model has random weights (F16 matrices, F32 norms), grouped queries, rotations of neighbouring elements, and a
SentencePiece vocabulary with all bytes and some pieces of English.  It names neither pooling nor EOS, as old files
of e5-mistral.
Writes some texts of random ids with the vector of the last token, of unit length: as the file is, and with its
positions stretched four times, linearly and by YaRN (with which the file then has to be given the keys).
Needs numpy.
"""
import json
import sys

import numpy as np

from gguf_file import ARRAY, BOOL, F32, I32, STRING, U32, write

HIDDEN, BLOCKS, HEADS, KEYS, WIDTH, INNER, CONTEXT = 32, 2, 2, 1, 16, 64, 128
BASE, EPSILON = 100.0, 1e-5
FACTOR, ORIGINAL, BETA_FAST, BETA_SLOW = 4.0, 64, 32.0, 1.0
PIECES = ["the", "he", "in", "er", "an", "on", "▁t", "▁a", "▁the", "ing", "▁s", "▁w", "re", "▁an", "▁and", "query",
          "qu", "er", "ry", "que", "▁q", "▁query", "▁in", "at", "▁at", "st", "▁st", "est", "test", "te", "▁te", "▁test"]
LENGTHS = [1, 2, 7, 33, 64, 128]


def vocabulary():
    tokens = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)]
    tokens += [(f"<0x{byte:02X}>", 6, 0.0) for byte in range(256)]
    letters = ["▁"] + list("etaoinshrdlcumwfgypbvkxjqzT.,")
    pieces = list(dict.fromkeys(PIECES)) + letters
    return tokens + [(piece, 1, -float(rank)) for rank, piece in enumerate(pieces)]


def frequencies(scaling):
    pairs = np.arange(WIDTH // 2)
    own = BASE ** (-2.0 * pairs / WIDTH)
    if scaling == "none":
        return own, 1.0
    if scaling == "linear":
        return own / FACTOR, 1.0
    correction = lambda turns: WIDTH * np.log(ORIGINAL / (turns * 2 * np.pi)) / (2 * np.log(BASE))
    low, high = max(np.floor(correction(BETA_FAST)), 0), min(np.ceil(correction(BETA_SLOW)), WIDTH - 1)
    ramp = np.clip((pairs - low) / (high - low), 0, 1)
    return own / FACTOR * ramp + own * (1 - ramp), 0.1 * np.log(FACTOR) + 1


def embed(weights, ids, scaling):
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    turns, magnitude = frequencies(scaling)
    angles = np.arange(len(ids))[:, None] * turns
    cos, sin = np.cos(angles)[:, None] * magnitude, np.sin(angles)[:, None] * magnitude

    def norm(x, name):
        return x / np.sqrt((x ** 2).mean(-1, keepdims=True) + EPSILON) * w[name]

    def rotate(x):
        turned = np.empty_like(x)
        turned[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        turned[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return turned

    x = w["token_embd.weight"][ids]
    later = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    for block in range(BLOCKS):
        part = lambda name: w[f"blk.{block}.{name}.weight"]
        taken = norm(x, f"blk.{block}.attn_norm.weight")
        q = rotate((taken @ part("attn_q").T).reshape(-1, HEADS, WIDTH))
        k = rotate((taken @ part("attn_k").T).reshape(-1, KEYS, WIDTH)).repeat(HEADS // KEYS, 1)
        v = (taken @ part("attn_v").T).reshape(-1, KEYS, WIDTH).repeat(HEADS // KEYS, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(WIDTH) + later
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        attended = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        x = x + attended @ part("attn_output").T
        taken = norm(x, f"blk.{block}.ffn_norm.weight")
        gate = taken @ part("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (taken @ part("ffn_up").T)) @ part("ffn_down").T
    last = norm(x, "output_norm.weight")[-1]
    return last / np.linalg.norm(last)


def main(model, out):
    random, tokens = np.random.default_rng(7), vocabulary()
    matrix = lambda rows, cols, scale=1.5: (random.normal(size=(rows, cols)) * scale / cols ** 0.5).astype(np.float16)
    norm = lambda: (1 + 0.2 * random.normal(size=HIDDEN)).astype(np.float32)
    weights = {"token_embd.weight": matrix(len(tokens), HIDDEN, 5.0), "output_norm.weight": norm()}
    for block in range(BLOCKS):
        for name, rows, cols in [("attn_q", HEADS * WIDTH, HIDDEN), ("attn_k", KEYS * WIDTH, HIDDEN),
                                 ("attn_v", KEYS * WIDTH, HIDDEN), ("attn_output", HIDDEN, HEADS * WIDTH),
                                 ("ffn_gate", INNER, HIDDEN), ("ffn_up", INNER, HIDDEN), ("ffn_down", HIDDEN, INNER)]:
            weights[f"blk.{block}.{name}.weight"] = matrix(rows, cols)
        for name in ["attn_norm", "ffn_norm"]:
            weights[f"blk.{block}.{name}.weight"] = norm()
    a, tokenizer = "llama.", "tokenizer.ggml."
    write(model, [
        ("general.architecture", STRING, "llama"), ("general.name", STRING, "tiny llama (synthetic)"),
        (a + "context_length", U32, CONTEXT), (a + "embedding_length", U32, HIDDEN), (a + "block_count", U32, BLOCKS),
        (a + "feed_forward_length", U32, INNER), (a + "attention.head_count", U32, HEADS),
        (a + "attention.head_count_kv", U32, KEYS), (a + "attention.layer_norm_rms_epsilon", F32, EPSILON),
        (a + "rope.freq_base", F32, BASE), (a + "rope.dimension_count", U32, WIDTH),
        (tokenizer + "model", STRING, "llama"), (tokenizer + "pre", STRING, "default"),
        (tokenizer + "tokens", ARRAY, (STRING, [token for token, _, _ in tokens])),
        (tokenizer + "scores", ARRAY, (F32, [score for _, _, score in tokens])),
        (tokenizer + "token_type", ARRAY, (I32, [kind for _, kind, _ in tokens])),
        (tokenizer + "bos_token_id", U32, 1), (tokenizer + "eos_token_id", U32, 2),
        (tokenizer + "unknown_token_id", U32, 0), (tokenizer + "add_bos_token", BOOL, True),
    ], weights)
    texts = []
    for length in LENGTHS:
        ids = random.integers(0, len(tokens), length).tolist()
        vectors = {scaling: [round(float(x), 7) for x in embed(weights, ids, scaling)]
                   for scaling in ["none", "linear", "yarn"]}
        texts.append({"ids": ids, **vectors})
    with open(out, "w") as file:
        json.dump(texts, file, separators=(",", ":"))


main(*sys.argv[1:])
