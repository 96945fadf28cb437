"""A small subset of Markdown as HTML; everything else is escaped."""
import html
import re


def render(source: str) -> str:
    blocks = re.split(r"\n{2,}", source.strip())
    return "\n".join(block(b) for b in blocks)


def block(text: str) -> str:
    if match := re.match(r"(#{1,6}) (.*)", text):
        level = len(match[1])
        return f"<h{level}>{inline(match[2])}</h{level}>"
    return f"<p>{inline(text)}</p>"


def inline(text: str) -> str:
    safe = html.escape(text)
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    return re.sub(r"_(.+?)_", r"<em>\1</em>", safe)
