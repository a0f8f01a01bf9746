/** Colour tables of 256 entries, and the grounds of cells that have no colour. */
import { FLAT } from "./scale.js";

/** viridis and cividis of matplotlib (CC0): base64 of 256 times red, green, blue. */
const VIRIDIS =
  "RAFURAJWRQRXRQVZRgdaRghcRgpdRgteRw1gRw5hRxBjRxFkRxNlSBRnSBZoSBdpSBhqSBpsSBttSBxuSB1vSB9wSCBxSCFzSCN0SCR1SCV2SCZ3SCh4SCl5Ryp6Ryx6Ry17Ry58Ry99RjB+RjJ+RjN/RjSARTWBRTeBRTiCRDmDRDqDRDuEQz2EQz6FQj+FQkCGQkGGQUKHQUSHQEWIQEaIP0eIP0iJPkmJPkqJPkyKPU2KPU6KPE+KPFCLO1GLO1KLOlOLOlSMOVWMOVaMOFiMOFmMN1qMN1uNNlyNNl2NNV6NNV+NNGCNNGGNM2KNM2ONMmSOMmWOMWaOMWeOMWiOMGmOMGqOL2uOL2yOLm2OLm6OLm+OLXCOLXGOLHGOLHKOLHOOK3SOK3WOKnaOKneOKniOKXmOKXqOKXuOKHyOKH2OJ36OJ3+OJ4COJoGOJoKOJoKOJYOOJYSOJYWOJIaOJIeOI4iOI4mOI4qNIouNIoyNIo2NIY6NIY+NIZCNIZGMIJKMIJKMIJOMH5SMH5WLH5aLH5eLH5iLH5mKH5qKHpuKHpyJHp2JH56JH5+IH6CIH6GIH6GHH6KHIKOGIKSGIaWFIaaFIqeFIqiEI6mDJKqDJauCJayCJq2BJ62BKK6AKa9/KrB/LLF+LbJ9LrN8L7R8MbV7MrZ6NLZ5Nbd5N7h4OLl3Orp2O7t1Pbx0P7xzQL1yQr5xRL9wRsBvSMFuSsFtTMJsTsNrUMRqUsVpVMVoVsZnWMdlWshkXMhjXsliYMpgY8tfZcteZ8xcac1bbM1abs5YcM9Xc9BWddBUd9FTetFRfNJQf9NOgdNNhNRLhtVJidVIi9ZGjtZFkNdDk9dBldhAmNg+m9k8ndk7oNo5oto3pds2qNs0qtwyrdwwsN0vst0ttd4ruN4put4ovd8mwN8lwt8jxeAhyOAgyuEfzeEd0OEc0uIb1eIa2OIZ2uMZ3eMY3+MY4uQY5eQZ5+QZ6uUa7OUb7+Uc8eUd9OYe9uYg+OYh++cj/ecl";
const CIVIDIS =
  "ACJOACNPACRRACVTACVUACZWACdYAChZAChbACldACpfACphACtiACxkACxmAC1oAC5qAC5sAC9tADBvADBwADFwADFxATJxBTNxCDNwDDRwDzVwEjVwFDZwFjdwGDdvGjhvHDlvHjpvIDpvITtuIzxuJDxuJj1uJz5uKT9uKj9tK0BtLUFtLkFtL0JtMUNtMkNtM0RtNEVsNUVsNkZsOEdsOUhsOkhsO0lsPEpsPUpsPktsP0xsQExsQU1sQk5sQ05sRE9sRVBsRlFsR1FsSFJsSVNsSlNsS1RsTFVsTVVsTlZsT1dsUFdsUVhtUlltU1ptVFptVVttVVxtVlxtV11tWF5tWV5uWl9uW2BuXGFuXWFuXmJuXmNvX2NvYGRvYWVvYmVvY2ZwZGdwZWhwZWhwZmlwZ2pxaGpxaWtxamxxa21ybG1ybG5ybW9ybm9zb3BzcHFzcXJ0cnJ0cnN0c3R1dHR1dXV1dnZ2d3d2d3d3eHh3eXl3enp4e3p4fHt4fXx4fnx4fn14f354gH94gX94goB5g4F5hIJ5hYJ5hoN5h4R4iIV4iYV4ioZ4i4d4jIh4jYh4jol4j4p4kIt4kYt4kox4ko14k454lI53lY93lpB3l5F3mJJ3mZJ3mpN2m5R2nJV2nZV2npZ2n5d1oJh1oZl1opl1o5p0pJt0pZx0ppx0p51zqJ5zqZ9zqqBzq6ByrKFyraJyrqNxr6RxsKVxsaVws6ZwtKdvtahvtqlvt6luuKpuuattuqxtu61tvK5sva5svq9rv7BrwLFqwbJqwrNpw7NpxLRoxbVoxrZnx7dnyLhmyblly7llzLpkzbtjzrxjz71i0L5i0b9h0sBg08Bf1MFf1cJe1sNd18Rc2cVc2sZb28da3MhZ3chY3slY38pX4MtW4cxV4s1U5M5T5c9S5tBR59FQ6NJP6dNO6tNM69RL7dVK7tZJ79dI8NhG8dlF8tpE89tC9dxB9t0/994++N88+eA6++E4/OI2/eM0/uQ0/uU1/uY2/ug4";

/** Of differences: blue below 0, orange to red above; told apart by every kind of colour blindness, and by brightness. */
const DIFFERENCE = ["#0a2f5c", "#2166ac", "#67a9cf", "#bcd9ea", "#f7f7f7", "#f8cfae", "#e58b4e", "#bf4a17", "#651f05"];

/** Cells without a colour of their own; absent is the page behind them. Signs are drawn over them in `ink`. */
const GROUNDS = {
  light: { undefined: "#dcdcdc", excluded: "#ececec", absent: "#ffffff", ink: "#6b6b6b" },
  dark: { undefined: "#3d3d42", excluded: "#2c2c31", absent: "#17181b", ink: "#a2a2aa" },
};

/** @typedef {{hex: string[], packed: Uint32Array, grounds: Record<"flat"|"undefined"|"excluded"|"absent"|"ink", string>}} Palette */

/**
 * The colours of a picture.
 * @param {"viridis"|"cividis"|"difference"} name   "difference" for a signed scale
 * @param {boolean} dark
 * @returns {Palette} `hex`: 256 of #rrggbb; `packed`: those, then the grounds by FLAT.. (scale.js), as pixels of an ImageData
 */
export function paletteOf(name, dark) {
  const key = `${name} ${dark}`;
  if (!palettes.has(key)) palettes.set(key, makePalette(name, dark));
  return palettes.get(key);
}

const palettes = new Map();

function makePalette(name, dark) {
  const hex = name === "difference" ? between(DIFFERENCE) : fromBase64(name === "cividis" ? CIVIDIS : VIRIDIS);
  const zero = hex[name === "difference" ? 128 : 0]; // what cannot be told from nothing is drawn as nothing
  const grounds = { flat: zero, ...GROUNDS[dark ? "dark" : "light"] };
  const packed = Uint32Array.from([...hex, grounds.flat, grounds.undefined, grounds.excluded, grounds.absent], pixel);
  if (packed.length !== FLAT + 4) throw new Error("a palette has 256 colours");
  return { hex, packed, grounds };
}

function fromBase64(text) {
  const bytes = atob(text);
  return Array.from({ length: 256 }, (_, index) => toHex([0, 1, 2].map((band) => bytes.charCodeAt(3 * index + band))));
}

/** 256 colours along straight lines between anchors that stand at equal distances; the middle one is at 128, and 1 mirrors 255. */
function between(anchors) {
  const last = anchors.length - 1;
  return Array.from({ length: 256 }, (_, index) => {
    const place = Math.max(0, ((index - 1) / 254) * last);
    const from = Math.min(last - 1, Math.floor(place));
    const [one, other] = [bands(anchors[from]), bands(anchors[from + 1])];
    return toHex(one.map((value, band) => value + (other[band] - value) * (place - from)));
  });
}

function bands(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

function toHex(rgb) {
  return "#" + rgb.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("");
}

/** #rrggbb as an opaque pixel of an ImageData seen as 32 bits, lowest byte first as on all machines that browsers run on. */
export function pixel(hex) {
  const [red, green, blue] = bands(hex);
  return ((0xff << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
