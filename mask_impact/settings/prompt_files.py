"""Text from files and standard input: UTF-8, a byte-order mark dropped, otherwise character for character."""

import codecs
import os
import stat
import sys
from typing import BinaryIO

from mask_impact.base.errors import RequestError

MOST_BYTES = 64 * 2**20  # some 16 million tokens


def read_prompt(source: str) -> str:
    """The prompt in a file, or on standard input for `-`, without exactly one final line break.

    Raises RequestError if there is no such file, or if it is not UTF-8 or holds no prompt.
    """
    where = "standard input" if source == "-" else source
    text = decode(_standard_input(), where) if source == "-" else read_text(source)
    for ending in ("\r\n", "\n", "\r"):
        if text.endswith(ending):
            text = text.removesuffix(ending)
            break
    if not text:
        raise RequestError(f"{where}: the prompt is empty; write the prompt's text there")
    return text


def read_text(path: str) -> str:
    """The text of a file, line breaks as they are. Raises RequestError if it cannot be read or is not UTF-8."""
    if os.path.isdir(path):
        raise RequestError(f"{path}: this is a folder; name a text file in it")
    try:
        with open(path, "rb") as file:
            return decode(read_limited(file, path), path)
    except FileNotFoundError:
        raise RequestError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from None


def decode(data: bytes, where: str) -> str:
    """UTF-8 bytes as text, a byte-order mark dropped; `where` names their source in the RequestError."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RequestError(f"{where}: this is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{where}: not UTF-8, found byte 0x{data[error.start]:02x} at offset {error.start}; save it as UTF-8"
        ) from None


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise RequestError("--prompt-file -: there is no standard input; name a file or use --prompt TEXT")
    return read_limited(sys.stdin.buffer, "standard input")


def stdin_has_data() -> bool:
    """Whether standard input is a pipe or file with unread bytes, as far as the system tells; never waits."""
    try:
        number = sys.stdin.fileno()
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode):
            return os.lseek(number, 0, os.SEEK_CUR) < found.st_size
        return stat.S_ISFIFO(found.st_mode) and bytes_in_pipe(number) > 0
    except (AttributeError, ImportError, OSError, ValueError):
        return False


def bytes_in_pipe(number: int) -> int:
    """How many bytes lie in a pipe now. Raises ImportError where the system does not tell (Windows)."""
    import fcntl
    import termios

    return int.from_bytes(fcntl.ioctl(number, termios.FIONREAD, bytes(4)), sys.byteorder)


def read_limited(file: BinaryIO, where: str) -> bytes:
    """All bytes of a file. Raises RequestError for more than any prompt has, such as the endless ones of /dev/zero."""
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise RequestError(f"{where}: more than {MOST_BYTES:,} bytes, too long for a prompt; name another file")
    return data
