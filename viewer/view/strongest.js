/** The strongest cells of many matrices, found in one pass over each and without sorting them. */

/**
 * Keeps the `most` largest distances that it is shown.
 *
 * @param {number} most
 * @returns {{add: Function, list: () => {value: number, variant: number, layer: number, token: number}[]}}
 *   `list` is ordered from the largest; equals by variant, layer and token.
 */
export function strongestOf(most) {
  const heap = []; // the smallest kept cell stands first, each cell before its two children

  /**
   * Show it one matrix of (layer, token), row-major.
   * @param {{values: ArrayLike<number>, rows: number, cols: number}} matrix  NaN where undefined or absent
   * @param {number} variant
   * @param {{norms?: ArrayLike<number>|null, floors?: (number|null)[]|null, excluded?: ArrayLike<number>|null}} options
   *   norms: what each layer's values are divided by; floors: after that, at or below them a value says nothing;
   *   excluded: 1 for each token left out.
   */
  function add({ values, rows, cols }, variant, { norms = null, floors = null, excluded = null } = {}) {
    for (let layer = 0; layer < rows; layer++) {
      const norm = norms === null ? 1 : norms[layer];
      const floor = Math.max(0, floors?.[layer] ?? 0);
      let least = Math.max(floor, heap.length < most ? 0 : heap[0].value);
      for (let token = 0, place = layer * cols; token < cols; token++, place++) {
        const value = values[place] / norm;
        if (!(value > least) || excluded?.[token]) continue; // NaN is not above anything
        keep(heap, { value, variant, layer, token }, most);
        if (heap.length >= most) least = Math.max(floor, heap[0].value);
      }
    }
  }

  const list = () =>
    [...heap].sort((a, b) => b.value - a.value || a.variant - b.variant || a.layer - b.layer || a.token - b.token);
  return { add, list };
}

function keep(heap, cell, most) {
  if (heap.length < most) {
    heap.push(cell);
    rise(heap, heap.length - 1);
  } else {
    heap[0] = cell;
    sink(heap);
  }
}

function rise(heap, place) {
  while (place > 0) {
    const parent = (place - 1) >> 1;
    if (heap[parent].value <= heap[place].value) return;
    [heap[parent], heap[place]] = [heap[place], heap[parent]];
    place = parent;
  }
}

function sink(heap) {
  for (let place = 0; ;) {
    let least = place;
    for (const child of [2 * place + 1, 2 * place + 2]) {
      if (child < heap.length && heap[child].value < heap[least].value) least = child;
    }
    if (least === place) return;
    [heap[least], heap[place]] = [heap[place], heap[least]];
    place = least;
  }
}
