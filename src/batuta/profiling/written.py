"""Text that can be written: names of files that are no UTF-8 come as characters that are not."""


def writable(text: str) -> str:
    r"""Give a text that UTF-8 can hold; what it cannot is spelled out, as in ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
