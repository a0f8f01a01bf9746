"""Settings of the GNU C library's malloc that keep its heap from fragmenting."""

from __future__ import annotations

import ctypes
import sys

# From <malloc.h> of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SMALL_PASS = 1024  # tokens in one forward pass; the largest blocks of more are past LARGE_PASS_BLOCK
SMALL_PASS_BLOCK, LARGE_PASS_BLOCK, KEPT = 32 * 2**20, 14 * 2**20, 1024 * 2**20


def set_malloc_thresholds(tokens: int) -> bool:
    """Set the size from which malloc maps a block by itself, for forward passes of `tokens` tokens; True if it was set.

    A mapped block goes back to the system when it is freed. In long passes every block of a sequence's length is
    mapped. In the heap, the keys and values that are kept would lie scattered among a layer's short-lived tensors, with
    holes between them a little too small for the aligned blocks that torch asks for: at 4,096 tokens on the shape of
    Qwen3-0.6B analyses needed 1.7 to 4.1 GB, by chance, and 1.7 to 1.9 GB with blocks past 14 MiB mapped.

    Short passes keep up to 1 GiB in the heap, as a mapped block costs a page fault for every 4 KiB, each time. Giving
    back what is past 256 MiB made 100,000 to 200,000 faults in every pass of 1,024 tokens, up to two seconds.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    block = SMALL_PASS_BLOCK if tokens <= SMALL_PASS else LARGE_PASS_BLOCK
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, block) and mallopt(M_TRIM_THRESHOLD, KEPT))
