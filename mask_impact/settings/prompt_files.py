"""Text from files and standard input: UTF-8, a byte-order mark dropped, otherwise character for character."""

import codecs
import json
import os
import stat
import sys
from typing import BinaryIO

from mask_impact.base.errors import RequestError
from mask_impact.settings import readers
from mask_impact.settings.readers import Message

MOST_BYTES = 64 * 2**20  # some 16 million tokens


def read_prompt(source: str) -> str:
    """The prompt in a file, or on standard input for `-`, without exactly one final line break.

    Raises RequestError if there is no such file, or if it is not UTF-8 or holds no prompt.
    """
    where, text = text_of(source, "--prompt-file -", "name a file or use --prompt TEXT")
    for ending in ("\r\n", "\n", "\r"):
        if text.endswith(ending):
            text = text.removesuffix(ending)
            break
    if not text:
        raise RequestError(f"{where}: the prompt is empty; write the prompt's text there")
    return text


def read_messages(source: str) -> tuple[Message, ...]:
    """The conversation in a JSON file, or on standard input for `-`.

    Raises RequestError if there is no such file, or if it is not JSON or holds no list of messages.
    """
    where, text = text_of(source, "--messages -", "name a file")
    try:
        return readers.messages(json.loads(text))
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{where}:{error.lineno}: not JSON: {error.msg}; "
            'write a list such as [{"role": "user", "content": "Who are you?"}]'
        ) from None
    except RecursionError:
        raise RequestError(f"{where}: nested too deeply; a list of messages needs two levels") from None
    except ValueError as error:
        raise RequestError(f"{where}: {error}") from None


def text_of(source: str, flag: str, otherwise: str) -> tuple[str, str]:
    """What a file, or standard input for `-`, is called in faults, and its text; `otherwise` is what to do if there is
    no standard input."""
    if source != "-":
        return source, read_text(source)
    if sys.stdin is None:
        raise RequestError(f"{flag}: there is no standard input; {otherwise}")
    where = "standard input"
    return where, decode(read_limited(sys.stdin.buffer, where), where)


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
