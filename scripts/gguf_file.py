"""Writes small GGUF files for the scripts that compute reference vectors.

Keys are `(name, type, value)`, an array's value `(type of an element, elements)`; tensors are arrays of f32 or f16.
"""
import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, data):
    if kind == STRING:
        return string(data)
    if kind == ARRAY:
        element, items = data
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], data)


def write(path, keys, tensors):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for name, kind, data in keys:
        head += string(name) + struct.pack("<I", kind) + value(kind, data)
    body = b""
    for name, values in tensors.items():
        body += b"\0" * (-len(body) % 32)
        kind = 0 if values.dtype == np.float32 else 1
        head += string(name) + struct.pack("<I", values.ndim)
        head += b"".join(struct.pack("<Q", size) for size in values.shape[::-1])
        head += struct.pack("<IQ", kind, len(body))
        body += values.tobytes()
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + body)
