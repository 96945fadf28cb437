#!/usr/bin/env python3
"""Packs reference vectors into the small files under embed-worker/tests/data/golden.

Usage: golden.py REFERENCE.json MODEL_TYPE OUT_STEM [--dequant]

REFERENCE.json holds, for each text: `text`, `ids_hf` (Hugging Face tokenizers 0.23.3, not truncated), `emb` (llama.cpp 11434, flash attention off, f32 KV cache, fed those ids, cut at
the context as Hugging Face does) for F32 and
for MODEL_TYPE, and for the tiny models `emb_dequant` (the file's own weights in exact arithmetic: dequantized with
gguf-py and run as an F32 model).

Writes OUT_STEM.json (texts, ids, llama.cpp's cosine to the target for each text) and OUT_STEM.f32 (the target
vectors, one after the other, little-endian f32).  The target is `emb_dequant` with --dequant, else F32.
Needs numpy.
"""
import json
import sys

import numpy as np

reference, model_type, out = sys.argv[1:4]
dequant = "--dequant" in sys.argv
source = json.load(open(reference))
context = source.get("context_length", 512)
texts, vectors = [], []
for item in source["items"]:
    if item["emb"]["F32"] is None:
        continue  # no tokens, and so no vector: an empty text where no special token is added
    target = np.array(item["emb_dequant"][model_type] if dequant else item["emb"]["F32"], dtype=np.float64)
    theirs = np.array(item["emb"][model_type], dtype=np.float64)
    ids = item.get("ids_hf_truncated") or item["ids_hf"]
    cosine = float(target @ theirs / np.linalg.norm(target) / np.linalg.norm(theirs))
    texts.append({
        "text": item["text"],
        "ids": ids if len(ids) <= context else ids[: context - 1] + ids[-1:],
        "tokens": len(item["ids_hf"]),
        "llama_cpp_cosine": round(cosine, 7),
    })
    vectors.append(target.astype("<f4"))
with open(out + ".json", "w") as file:
    json.dump({"target": "the file's own weights in exact arithmetic" if dequant else "the f32 model",
               "type": model_type, "texts": texts}, file, ensure_ascii=False, separators=(",", ":"))
np.concatenate(vectors).tofile(out + ".f32")
