"""Lines of a given width (pure): long words, such as the path of an annotation, end where a reader would end them."""

BREAKS = frozenset("/.:,=-_[]()@")


def wrap(text: str, width: int, *, hang: int = 0) -> list[str]:
    """Return the text's lines, at least one; all but the first are ``hang`` columns in. Nothing of a word is lost."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        glue = " " if line.strip() else ""
        if len(line) + len(glue) + len(word) <= width:
            line += glue + word
            continue
        if line.strip():
            lines.append(line)
            line = " " * hang
        while len(line) + len(word) > width:
            end = _end(word, width - len(line))
            lines.append(line + word[:end])
            word, line = word[end:], " " * hang
        line += word
    return [*lines, line] if line.strip() or not lines else lines


def _end(word: str, room: int) -> int:
    """Return how much of a word that does not fit into ``room`` is put there: up to a mark, unless that is little."""
    marked = max((place for place, mark in enumerate(word[:room], 1) if mark in BREAKS), default=0)
    return marked if marked > room // 3 else max(room, 1)
