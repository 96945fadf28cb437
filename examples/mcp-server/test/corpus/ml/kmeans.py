"""Puts points that lie near each other into the same group."""
import random


def cluster(points: list[tuple[float, ...]], k: int, rounds: int = 50) -> list[int]:
    centres = random.sample(points, k)
    labels = [0] * len(points)
    for _ in range(rounds):
        labels = [min(range(k), key=lambda c: squared(p, centres[c])) for p in points]
        for c in range(k):
            members = [p for p, label in zip(points, labels) if label == c]
            if members:
                centres[c] = tuple(sum(axis) / len(members) for axis in zip(*members))
    return labels


def squared(a, b) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b))
