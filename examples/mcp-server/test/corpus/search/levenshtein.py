"""How many keystrokes separate two words: for suggestions after a typo."""


def distance(a: str, b: str) -> int:
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        current = [i]
        for j, y in enumerate(b, start=1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (x != y)))
        previous = current
    return previous[-1]


def suggestions(word: str, vocabulary: list[str], at_most: int = 2) -> list[str]:
    near = [(distance(word, other), other) for other in vocabulary]
    return [other for d, other in sorted(near) if d <= at_most]
