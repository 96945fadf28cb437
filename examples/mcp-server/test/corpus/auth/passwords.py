"""Hashing of passwords with scrypt."""
import hashlib
import hmac
import os

N, R, P = 2**15, 8, 1
SALT_BYTES = 16


def hash_password(plain: str) -> bytes:
    salt = os.urandom(SALT_BYTES)
    return salt + hashlib.scrypt(plain.encode(), salt=salt, n=N, r=R, p=P, maxmem=2**26)


def is_right(plain: str, stored: bytes) -> bool:
    salt, expected = stored[:SALT_BYTES], stored[SALT_BYTES:]
    actual = hashlib.scrypt(plain.encode(), salt=salt, n=N, r=R, p=P, maxmem=2**26)
    return hmac.compare_digest(actual, expected)
