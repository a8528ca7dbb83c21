"""Text without what could steer a terminal (pure): a journal or an object may hold what a stranger wrote."""


def printable(text: str) -> str:
    """Return the text with each character that cannot be printed as its escape."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
