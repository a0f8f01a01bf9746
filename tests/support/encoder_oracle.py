"""The encoder's measurement once more, plain and slow: the independent reference that the package is held to.

    table = encoder_oracle(model, pixel_values, image_grid_thw, cell=7)
    l2, cosine = table["Head_1", 0]          # head 1 of block 0, each of shape (cell,), over all pictures

One ordinary pass notes what every block is called with. Then each block is calculated again in float64 from its
weights, once for each cell, with -inf in the columns of that cell's patches for the measured cell's queries. Nothing is
imported from the package, and of the model's code only its activation is used.
"""

import torch
from oracle import distances


def encoder_oracle(model, pixel_values, image_grid_thw, cell):
    """{(variant, block): (l2, cosine)} of `cell`, counted over all pictures,
    each (cell,) in float64; NaN where undefined."""
    encoder = model.model.visual
    merge, calls = encoder.config.spatial_merge_size, []
    handles = [
        block.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
        for block in encoder.blocks
    ]
    with torch.no_grad():
        encoder(pixel_values, grid_thw=image_grid_thw)
    for handle in handles:
        handle.remove()
    lengths = [int(height * width) for _, height, width in image_grid_thw]
    table = {}
    for index, (block, (args, kwargs)) in enumerate(zip(encoder.blocks, calls)):
        weights = {name: weight.double() for name, weight in block.state_dict().items()}
        places = [places.double() for places in kwargs["position_embeddings"]]
        for variant, vectors in masked_vectors(
            block, weights, args[0].double(), places, lengths, cell, merge**2
        ).items():
            table[variant, index] = distances(vectors)
    return table


def masked_vectors(block, weights, stream, places, lengths, cell, size):
    """{variant: (1 + cell, width)}: row 0 the baseline, then one row for each cell masked."""
    queries = range(cell * size, (cell + 1) * size)
    cells = [range(masked * size, (masked + 1) * size) for masked in range(len(stream) // size)]
    rows = [block_by_hand(block, weights, stream, places, lengths, queries, hidden) for hidden in ((), *cells)]
    return {variant: torch.stack([row[variant] for row in rows]) for variant in rows[0]}


def block_by_hand(block, weights, stream, places, lengths, queries, hidden):
    """What the block adds at `queries`, by variant, one query after the other,
    with the keys `hidden` from those queries."""
    queries, hidden = list(queries), list(hidden)
    visible = torch.block_diag(*[torch.ones(length, length) for length in lengths]).bool()
    for query in queries:
        visible[query, hidden] = False
    heads = block.attn.num_heads
    normed = layer_norm(stream, weights, "norm1")
    query, key, value = linear(normed, weights, "attn.qkv").unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
    query, key = turned(query, *places), turned(key, *places)
    logits = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~visible, -torch.inf)
    powers = torch.exp(logits - logits.max(-1, keepdim=True).values)  # NaN where nothing is visible
    output = powers / powers.sum(-1, keepdim=True) @ value
    attention = linear(output.transpose(0, 1).flatten(1), weights, "attn.proj")
    middle = stream + attention
    mlp = linear(
        block.mlp.act_fn(linear(layer_norm(middle, weights, "norm2"), weights, "mlp.linear_fc1")),
        weights,
        "mlp.linear_fc2",
    )
    found = {"Full": (attention + mlp)[queries].flatten(), "Attn": attention[queries].flatten()}
    return found | {f"Head_{head}": output[head, queries].flatten() for head in range(heads)}


def linear(inputs, weights, name):
    return inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(inputs, weights, name):
    centred = inputs - inputs.mean(-1, keepdim=True)
    return (
        centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def turned(vectors, cos, sin):
    """Rotary embedding of (head, patch, head_dim), coordinates i and i + head_dim/2 together."""
    left, right = vectors.chunk(2, -1)
    return vectors * cos + torch.cat([-right, left], -1) * sin
