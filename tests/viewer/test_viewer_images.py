"""Pictures in the viewer, in a real Chromium: their patches coloured over them and linked with the tokens."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from viewing import NEAR, colours


def picture_run(folder):
    """Three words around one image of 2 x 3 patches, as a vision-language run writes it."""
    tokens = ["look", *(f"img0[{row},{col}]" for row in range(2) for col in range(3)), " here"]
    kinds = ["text", *["vision"] * 6, "text"]
    places = [(None, None, None), *((0, row, col) for row in range(2) for col in range(3)), (None, None, None)]
    rows = [
        (0, layer, token, position, "Full", 1 + position + layer, 0.1, kind, *place)
        for layer in range(2)
        for position, (token, kind, place) in enumerate(zip(tokens, kinds, places))
    ]
    names = [
        "generation_step",
        "layer",
        "token_masked",
        "token_position",
        "variant",
        "l2_distance",
        "cosine_distance",
        "token_type",
        "image_index",
        "patch_row",
        "patch_col",
    ]
    pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[-3:], "Int64")).to_csv(
        folder / "photo_results.csv", index=False
    )
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
    record = {
        "schema_version": 1,
        "status": "complete",
        "name": "photo",
        "layers": [0, 1],
        "variants": ["Full"],
        "steps": [],
        "images": [
            {
                "path": "C:\\\\pictures\\\\cat.png",
                "width": 96,
                "height": 64,
                "resized": [64, 96],
                "grid": [2, 3],
                "uri": f"data:image/png;base64,{dot}",
            }
        ],
    }
    (folder / "photo_run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder / "photo_results.csv", folder / "photo_run.json"


def test_an_images_patches_are_coloured_and_linked(viewer, tmp_path):
    viewer.choose(*picture_run(tmp_path))
    image = viewer.at("image")
    assert image.count() == 1 and image.is_visible()
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    viewer.page.mouse.move(box["x"] + box["width"] * 5 / 6, box["y"] + box["height"] * 3 / 4)
    viewer.settle()
    assert viewer.at("tooltip").get_attribute("data-position") == "6"
    assert viewer.at("images").locator("figcaption").inner_text() == "Image 0: cat.png, 2 x 3 patches"
    assert viewer.at("text").locator("[data-token]").count() == 3


# A patch's pixels, red, green, blue and alpha, in its middle and in its frame.
PATCH = """(canvas, [row, col]) => {
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const side = canvas.width / 3, pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  return [side / 2, 1].map((inside) => [...pen.getImageData(col * side + inside, row * side + inside, 1, 1).data]);
}"""


def test_what_is_over_a_picture_grows_with_the_value(viewer, tmp_path):
    """Nothing at 0; the frame has the colour of its share of the strongest patch, as strong as that, the tint within a
    part of it. Words, here ten times as strong, have no part in it."""
    results, record = picture_run(tmp_path)
    rows = pd.read_csv(results)
    rows.loc[rows.token_position == 1, "l2_distance"] = 0
    rows.loc[rows.patch_row.isna(), "l2_distance"] *= 10
    rows.to_csv(results, index=False)
    viewer.choose(results, record)
    viewer.select("Curve", "linear")
    viewer.select("Text layer", "1")
    largest = rows[(rows.layer == 1) & rows.patch_row.notna()].l2_distance.max()
    patch = lambda row, col: np.array(viewer.at("image").evaluate(PATCH, [row, col]))
    assert patch(0, 0).max() == 0
    for opacity in (0.2, 0.7):
        viewer.page.get_by_label("Opacity", exact=True).fill(str(opacity))
        for row, col in ((0, 1), (1, 2)):
            [share] = rows[(rows.layer == 1) & (rows.patch_row == row) & (rows.patch_col == col)].l2_distance / largest
            tint, frame = patch(row, col)
            assert frame[:3] == pytest.approx(colours(np.array(share)), abs=NEAR)
            assert (tint[3], frame[3]) == pytest.approx((255 * share * opacity, 255 * share), abs=2)
