import assert from "node:assert/strict";
import test from "node:test";

import { layoutOf } from "../view/maplayout.js";
import { CELL_SIZES, fittingCell, nextCell, paintCells, visibleCells, wholeCell } from "../view/pixels.js";
import { ABSENT, EXCLUDED, FLAT, UNDEFINED } from "../view/scale.js";

const INK = 9999;
const packed = Uint32Array.from({ length: 260 }, (_, code) => code + 1);

function painted(codes, about) {
  const window = { left: 0, top: 0, gap: 0, period: 6, rows: codes.length, cols: codes[0].length, ...about };
  const pixels = new Uint32Array(window.width * window.height);
  paintCells(pixels, window, (row, col) => codes[row][col], packed, INK);
  return Array.from({ length: window.height }, (_, y) => [
    ...pixels.subarray(y * window.width, (y + 1) * window.width),
  ]);
}

test("each cell is a square of its colour; beside the picture nothing is drawn", () => {
  assert.deepEqual(
    painted(
      [
        [1, 2],
        [3, FLAT],
      ],
      { width: 5, height: 5, cell: 2 },
    ),
    [
      [2, 2, 3, 3, 0],
      [2, 2, 3, 3, 0],
      [4, 4, 257, 257, 0],
      [4, 4, 257, 257, 0],
      [0, 0, 0, 0, 0],
    ],
  );
});

test("a gap is taken from the end of each cell", () => {
  assert.deepEqual(painted([[1, 2]], { width: 6, height: 3, cell: 3, gap: 1 }), [
    [2, 2, 0, 3, 3, 0],
    [2, 2, 0, 3, 3, 0],
    [0, 0, 0, 0, 0, 0],
  ]);
});

test("a window that has been scrolled shows what is there, cut cells too", () => {
  const codes = [
    [1, 2, 3],
    [4, 5, 6],
    [7, 8, 9],
  ];
  assert.deepEqual(painted(codes, { width: 4, height: 4, cell: 3, left: 2, top: 4 }), [
    [5, 6, 6, 6],
    [5, 6, 6, 6],
    [8, 9, 9, 9],
    [8, 9, 9, 9],
  ]);
  assert.deepEqual(visibleCells({ width: 4, height: 4, cell: 3, left: 2, top: 4, rows: 3, cols: 3 }), {
    firstRow: 1,
    lastRow: 2,
    firstCol: 0,
    lastCol: 1,
  });
});

test("cells of broken size leave no pixel out and paint none twice as wide as its neighbour", () => {
  for (const cell of [1.25, 3.75, 17.5, 21.3]) {
    const codes = [Array.from({ length: 40 }, (_, col) => col)];
    const width = Math.floor(40 * cell);
    const [line] = painted(codes, { width, height: 1, cell });
    assert.ok(line.every((value) => value > 0));
    const widths = codes[0].map((col) => line.filter((value) => value === col + 1).length);
    assert.ok(Math.max(...widths.slice(0, -1)) - Math.min(...widths.slice(0, -1)) <= 1, String(cell));
  }
});

test("left out is hatched, undefined dotted, absent blank; the signs move with the picture", () => {
  const [excluded, undefinedCell, absent] = [EXCLUDED, UNDEFINED, ABSENT].map((code) =>
    painted([[code]], { width: 12, height: 12, cell: 12 }).flat(),
  );
  const inked = (pixels) => pixels.filter((value) => value === INK).length;
  assert.ok(inked(excluded) > 0 && inked(undefinedCell) > 0 && inked(absent) === 0);
  assert.notEqual(String(excluded), String(undefinedCell));
  const whole = painted([[EXCLUDED, EXCLUDED]], { width: 24, height: 12, cell: 12 });
  const moved = painted([[EXCLUDED, EXCLUDED]], { width: 20, height: 12, cell: 12, left: 4 });
  assert.deepEqual(
    moved,
    whole.map((line) => line.slice(4)),
  );
  assert.equal(inked(painted([[EXCLUDED]], { width: 3, height: 3, cell: 3 }).flat()), 0);
});

test("cells fit the room, but stay readable; larger and smaller undo each other", () => {
  assert.equal(fittingCell(3, 23, 1000, 500), 32);
  assert.equal(fittingCell(28, 40, 1000, 500), 16);
  assert.equal(fittingCell(28, 500, 1000, 500), 14);
  assert.equal(wholeCell(28, 500, 1000, 500), 2);
  assert.equal(wholeCell(64, 16000, 1000, 500), 1);
  for (const cell of CELL_SIZES.slice(1, -1)) assert.equal(nextCell(nextCell(cell, 1), -1), cell);
  assert.equal(nextCell(64, 1), 64);
  assert.equal(nextCell(1, -1), 1);
});

function viewOf(texts, layers) {
  return {
    rows: layers,
    cols: texts.length,
    layers: Array.from({ length: layers }, (_, layer) => layer),
    scale: { rowMax: [NaN, 1.5] },
    tokens: texts.map((text, position) => ({ text, position })),
  };
}

test("the layout leaves room for labels, and turns with the picture", () => {
  const view = viewOf(
    Array.from({ length: 300 }, (_, index) => ` word${index}`),
    28,
  );
  const room = { width: 1000, height: 500, ratio: 1, bar: 15 };
  const upright = layoutOf({ view, state: { transposed: false, cell: null }, room });
  assert.deepEqual([upright.rows, upright.cols, upright.turned], [28, 300, true]);
  assert.ok(
    upright.width + upright.edges.left + upright.edges.right <= 1000 &&
      upright.height + upright.edges.top + upright.edges.bottom <= 500,
  );
  const turned = layoutOf({ view, state: { transposed: true, cell: 40 }, room });
  assert.deepEqual([turned.rows, turned.cols, turned.cell, turned.turned], [300, 28, 40, false]);
  const both = layoutOf({ view: { ...view, rows: 90 }, state: { transposed: false, cell: 32 }, room });
  assert.equal(both.width + both.edges.left + both.edges.right + room.bar, 1000); // the scroll bar takes none of the edges
  const one = layoutOf({ view: viewOf([""], 1), state: { transposed: false, cell: null }, room });
  assert.ok(
    Object.values(one)
      .flat()
      .every((value) => typeof value !== "number" || Number.isFinite(value)),
  );
});
