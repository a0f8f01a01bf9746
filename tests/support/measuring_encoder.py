"""Short ways for tests to measure a vision encoder, on pictures of noise."""

from mask_impact.measure.check_on_load import measurable_parts
from mask_impact.measure.loop import measured_layers
from mask_impact.measure.step import Method, ModelInputs
from mask_impact.sites.site import MeasuredAt
from mask_impact.sites.vision_encoder import VISION_ENCODER, sample_pictures, vision_encoder

GRIDS = [[(3, 5)], [(3, 5), (7, 2)]]  # rows and columns of cells: one picture, and two of different shapes
SIZE = 4


def cells_of(grids):
    return sum(rows * columns for rows, columns in grids)


def fed(model, grids, *measured):
    """Inputs of pictures of noise with these grids; every cell is measured if none is named."""
    pictures = sample_pictures(vision_encoder(model), grids)
    ids = [0] * cells_of(grids)
    return cells(ids, pictures, measured or tuple(range(len(ids))))


def cells(ids, pictures, measured):
    """Inputs of these pictures, seen from the `measured` cells."""
    return ModelInputs(ids, 1, further=lambda _: pictures, site=VISION_ENCODER, at=MeasuredAt(measured, SIZE))


def encoder_parts(model, method=Method()):
    """The encoder's blocks, checked."""
    parts, skipped = measurable_parts(model, method, VISION_ENCODER)
    assert skipped == {}
    return parts


def blocks(model, grids, *measured, method=Method()):
    return list(measured_layers(model, encoder_parts(model, method), fed(model, grids, *measured), method))
