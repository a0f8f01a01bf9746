"""What is taken away from the viewer, in a real Chromium: CSV, PNG and SVG of the view."""

from __future__ import annotations

import csv
import math
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from viewing import NEAR, colours, matrix, saved, shares


def test_csv_of_the_view(key, table):
    path, name = saved(key, "CSV")
    assert name.endswith(".csv")
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    found = {float(cell) for row in rows for cell in row if cell.replace(".", "").replace("e-", "").isdigit()}
    for value in matrix(table)[1, [1, 5]]:
        assert any(math.isclose(value, other, rel_tol=1e-6) for other in found)


def test_png_of_the_whole_heatmap(key, table):
    path, name = saved(key, "PNG")
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert name.endswith(".png") and data.startswith(b"\x89PNG") and width > matrix(table).shape[1] * 4 and height > 40


def test_png_has_the_tables_colours(key, table):
    """Each layer's largest cell has the last colour, and layer 0's others the colours of their shares."""
    Image = pytest.importorskip("PIL.Image")
    pixels = np.array(Image.open(saved(key, "PNG")[0]).convert("RGB")).astype(int)
    last = np.abs(pixels - colours(np.array(1.0))).max(-1) <= 2
    values = matrix(table)
    row, col = np.argwhere(last)[0]  # of the first layer that has one: its cell's upper left corner
    first, cell = int(values[0, 1:].argmax()) + 1, 32
    drawn = [pixels[row + cell // 2, col + cell // 2 + (at - first) * cell] for at in range(1, values.shape[1])]
    np.testing.assert_allclose(drawn, colours(shares(values))[0], atol=NEAR)


def test_side_by_side_saves_both_pictures(key):
    key.select("Compare with", "variant")
    key.page.get_by_label("Other variant", exact=True).select_option(label="Head_1")
    key.select("Compare as", "side")
    found = []
    key.page.on("download", lambda one: found.append(one))
    key.page.get_by_role("button", name="SVG", exact=True).click()
    key.page.wait_for_timeout(1000)
    assert len({one.suggested_filename for one in found}) == 2
    texts = [Path(one.path()).read_text(encoding="utf-8") for one in found]
    assert all("line-through" in text and "noise floor" in text and "Model: demo" in text for text in texts)


def test_svg_is_whole_and_names_its_tokens(key, table):
    path, name = saved(key, "SVG")
    root = ElementTree.parse(path).getroot()
    assert name.endswith(".svg") and root.tag.endswith("svg")
    texts = " ".join(filter(None, (one.text for one in root.iter() if one.tag.endswith(("text", "tspan", "title")))))
    assert "key" in texts
