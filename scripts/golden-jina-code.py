#!/usr/bin/env python3
"""A tiny model shaped like jina-embeddings-v2-base-code, and its vectors computed in f64 from the formulas.

Usage: golden-jina-code.py MODEL.gguf OUT.json

Beside what `jina-bert-v2` has anyway, it norms all queries and all keys, adds a layer's input a second time after
attention and norms again, and has the gate in the second half of `ffn_up.weight`: as in the published model's own
code (`jina-bert-v2-qk-post-norm`: `up * act(gated)`) and as today's converter of llama.cpp leaves it.
Random weights (F16 matrices, F32 norms and biases), and a byte-level BPE vocabulary of bytes and a few merges.
Writes some texts of random ids with the mean of their tokens' vectors, of unit length.  Needs numpy.
"""
import json
import math
import sys

import numpy as np

from gguf_file import ARRAY, BOOL, F32, I32, STRING, U32, write

HIDDEN, BLOCKS, HEADS, INNER, CONTEXT = 32, 2, 2, 48, 512
WIDTH, EPSILON, MAX_BIAS = HIDDEN // HEADS, 1e-12, 8.0
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MERGES = ["f n", "Ġ f", "r e", "re t", "e t", "Ġ Ġ", "ĠĠ ĠĠ", "Ġ =", "( )", "i f", "l et"]
LENGTHS = [1, 2, 7, 33, 64, 130, 300]
NORMAL, CONTROL = 1, 3


def letters():
    """The characters that stand for the 256 bytes, as in GPT-2's `bytes_to_unicode`."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def embed(weights, ids):
    w = {name: values.astype(np.float64) for name, values in weights.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + EPSILON)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    x = norm(w["token_embd.weight"][ids] + w["token_types.weight"][0], "token_embd_norm")
    places = np.arange(len(ids))
    # HEADS is a power of two.
    slopes = 2.0 ** (-MAX_BIAS / HEADS * np.arange(1, HEADS + 1))
    bias = -np.abs(places[:, None] - places)[None] * slopes[:, None, None]
    for block in range(BLOCKS):
        part = lambda name: f"blk.{block}.{name}"
        heads = lambda rows: rows.reshape(-1, HEADS, WIDTH)
        q = heads(norm(linear(x, part("attn_q")), part("attn_q_norm")))
        k = heads(norm(linear(x, part("attn_k")), part("attn_k_norm")))
        v = heads(linear(x, part("attn_v")))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(WIDTH) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        attended = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        attended = norm(x + linear(attended, part("attn_output")), part("attn_output_norm"))
        x = norm(x + attended, part("attn_norm_2"))
        up, gate = np.split(linear(x, part("ffn_up")), 2, -1)
        x = norm(x + linear(up * gelu(gate), part("ffn_down")), part("layer_output_norm"))
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main(model, out):
    random = np.random.default_rng(11)
    tokens = SPECIALS + letters() + [merge.replace(" ", "") for merge in MERGES]
    matrix = lambda rows, cols, scale=1.5: (random.normal(size=(rows, cols)) * scale / cols ** 0.5).astype(np.float16)
    vector = lambda size, middle: (middle + 0.2 * random.normal(size=size)).astype(np.float32)
    weights = {"token_embd.weight": matrix(len(tokens), HIDDEN, 5.0), "token_types.weight": matrix(2, HIDDEN)}

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = vector(HIDDEN, 1.0), vector(HIDDEN, 0.0)

    norm("token_embd_norm")
    for block in range(BLOCKS):
        for name, rows, cols, biased in [
            ("attn_q", HIDDEN, HIDDEN, True), ("attn_k", HIDDEN, HIDDEN, True), ("attn_v", HIDDEN, HIDDEN, True),
            ("attn_output", HIDDEN, HIDDEN, True), ("ffn_up", 2 * INNER, HIDDEN, False),
            ("ffn_down", HIDDEN, INNER, True)]:
            weights[f"blk.{block}.{name}.weight"] = matrix(rows, cols)
            if biased:
                weights[f"blk.{block}.{name}.bias"] = vector(rows, 0.0)
        for name in ["attn_q_norm", "attn_k_norm", "attn_output_norm", "attn_norm_2", "layer_output_norm"]:
            norm(f"blk.{block}.{name}")
    a, tokenizer = "jina-bert-v2.", "tokenizer.ggml."
    write(model, [
        ("general.architecture", STRING, "jina-bert-v2"), ("general.name", STRING, "tiny code model (synthetic)"),
        (a + "context_length", U32, CONTEXT), (a + "embedding_length", U32, HIDDEN), (a + "block_count", U32, BLOCKS),
        (a + "feed_forward_length", U32, INNER), (a + "attention.head_count", U32, HEADS),
        (a + "attention.layer_norm_epsilon", F32, EPSILON), (a + "attention.causal", BOOL, False),
        (a + "pooling_type", U32, 1), (tokenizer + "token_type_count", U32, 2),
        (tokenizer + "model", STRING, "gpt2"), (tokenizer + "pre", STRING, "jina-v2-code"),
        (tokenizer + "tokens", ARRAY, (STRING, tokens)), (tokenizer + "merges", ARRAY, (STRING, MERGES)),
        (tokenizer + "token_type", ARRAY,
         (I32, [CONTROL] * len(SPECIALS) + [NORMAL] * (len(tokens) - len(SPECIALS)))),
        (tokenizer + "bos_token_id", U32, 0), (tokenizer + "padding_token_id", U32, 1),
        (tokenizer + "eos_token_id", U32, 2), (tokenizer + "seperator_token_id", U32, 2),
        (tokenizer + "unknown_token_id", U32, 3), (tokenizer + "mask_token_id", U32, 4),
    ], weights)
    texts = []
    for length in LENGTHS:
        ids = random.integers(len(SPECIALS), len(tokens), length).tolist()
        texts.append({"ids": ids, "vector": [round(float(x), 7) for x in embed(weights, ids)]})
    with open(out, "w") as file:
        json.dump(texts, file, separators=(",", ":"))


main(*sys.argv[1:])
