"""The C library's heap, kept from falling to pieces."""

from __future__ import annotations

import ctypes
import sys

# From <malloc.h> of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SMALL_PASS = 1024  # tokens in one forward pass; the largest blocks of more are past LARGE_PASS_BLOCK
SMALL_PASS_BLOCK, LARGE_PASS_BLOCK, KEPT = 32 * 2**20, 14 * 2**20, 1024 * 2**20


def set_malloc_thresholds(tokens: int) -> bool:
    """Let large blocks be mapped in forward passes of so many tokens, and given back to the system when freed; True
    where that could be asked for.

    In long passes that is every block of a sequence's length. In the heap, keys and values that are kept come to lie
    scattered among a layer's passing tensors, with holes between that are a little too small for the aligned blocks
    that torch asks for: at 4,096 tokens on the shape of Qwen3-0.6B analyses needed 1.7 to 4.1 GB, by chance, and 1.7 to
    1.9 with blocks past 14 MiB mapped. Short passes keep what they can, up to 1 GiB: a mapped block costs a page fault
    for every 4 KiB, each time. Giving back past 256 MiB made 100,000 to 200,000 faults in every pass of 1,024 tokens,
    of up to two seconds.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    block = SMALL_PASS_BLOCK if tokens <= SMALL_PASS else LARGE_PASS_BLOCK
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, block) and mallopt(M_TRIM_THRESHOLD, KEPT))
