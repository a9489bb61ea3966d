"""The line of an error that says most: what a status has room for."""


def termination_message(text: str) -> str:
    """The last line that is not indented: of a traceback, the error; of a log, what it ends with.

    What follows it is indented: source lines, and notes of the libraries that raise.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    outer = [line for line in lines if not line[0].isspace()]
    return (outer or lines or [""])[-1].strip()
