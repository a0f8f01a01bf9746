"""The C library's heap, kept from falling to pieces."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

# From <malloc.h> of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE, KEPT = 32 * 2**20, 1024 * 2**20


@lru_cache(maxsize=1)
def map_large_blocks() -> bool:
    """Let blocks past 32 MiB be mapped, and given back to the system when freed; True where that could be asked for.

    That is what glibc's own limit grows to while a program runs; from the start, keys and values that are kept do not
    come to lie scattered among a layer's passing tensors, with holes between that are a little too small for the aligned
    blocks that torch asks for. Smaller blocks stay with the process, up to 1 GiB: with 256 MiB it gave some back and
    asked for them again in every pass of 1,024 tokens, in 100,000 to 200,000 page faults that took up to two seconds.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, LARGE) and mallopt(M_TRIM_THRESHOLD, KEPT))
