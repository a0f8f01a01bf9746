"""Writes the Parquet files beside it, for the unit tests of the viewer's reader.

.venv/bin/python viewer/tests/data/make.py        # in the repository's root
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from mask_impact.results.table import ResultTable, StepDistances
from mask_impact.results.writing import write_parquet

TOKENS = ["The", ' "cat"', "</script>", "", " sat"]
RUN = b'{"schema_version": 1, "status": "complete", "settings": {"prompt": "The cat"}, "rows": 63}'


def table(cells: list[tuple[str, int]], dtype: type = np.float32) -> ResultTable:
    """Three steps of 3, 4 and 5 tokens; the first distance of each is undefined."""
    made = ResultTable(TOKENS, cells)
    for step in range(3):
        shape = (len(cells), 3 + step)
        l2 = (np.arange(np.prod(shape)).reshape(shape) * 37 % 101 / 8 + step).astype(dtype)
        l2[0, 0] = np.nan
        made.steps.append(StepDistances(step, l2, (l2 / 100).astype(dtype)))
    return made


def main() -> None:
    """Write every file that the viewer's tests read, beside this one."""
    even = [(variant, layer) for variant in ("Full", "Attn", "Head_0", "Head_1") for layer in (0, 1)]
    uneven = [("Full", 1), ("Full", 2), ("Full", 5), ("Head_0", 1), ("Head_0", 5), ("Head_1", 2)]
    frame = table(even).to_dataframe()
    write_parquet(table(even), HERE / "own.parquet", RUN.replace(b"63", b"96"))
    write_parquet(table(uneven), HERE / "uneven.parquet", RUN.replace(b"63", b"72"))
    write_parquet(table(even, np.float64), HERE / "float64.parquet", RUN.replace(b"63", b"96"))
    frame.sample(frac=1, random_state=1).to_parquet(HERE / "pandas.parquet", row_group_size=40)
    frame.to_parquet(HERE / "zstd.parquet", compression="zstd")
    frame.assign(layer=-1 - frame["layer"]).to_parquet(HERE / "negative.parquet")


if __name__ == "__main__":
    main()
