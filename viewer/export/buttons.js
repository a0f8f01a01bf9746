/** What can be taken away: the whole heatmap as PNG or SVG, the view as CSV, a link to what is shown. */
import { element } from "../view/element.js";
import { currentView } from "../view/state.js";
import { csvPieces } from "./csv.js";
import { plan } from "./layout.js";
import { csvOf, fileStem, pictureOf } from "./picture.js";
import { pngBlob, rasterUri } from "./png.js";
import { svgText } from "./svg.js";

const NOTHING = "Nothing is shown yet.";

export function exportButtons(root, store) {
  const status = element("span", { class: "muted small", role: "status" });
  const link = element("input", { type: "text", readonly: true, "aria-label": "Link to this state", hidden: true });
  const button = (name, title, click) => element("button", { type: "button", title, click }, name);
  const saving = (act) => async () => { status.textContent = await answer(act, store); };
  root.classList.add("export");
  root.append(
    button("PNG", "The whole heatmap as a picture", saving(png)),
    button("SVG", "The whole heatmap as a drawing, text as text", saving(svg)),
    button("CSV", "The numbers of this view", saving(csv)),
    button("Copy link", "A link to what is shown now", async () => { status.textContent = await copyLink(link); }),
    link, status,
  );
}

async function answer(act, store) {
  const state = store.get();
  const view = state.result && currentView(state);
  if (!view) return NOTHING;
  try {
    return await act(state, view);
  } catch (error) {
    return `Not saved: ${error.message}.`;
  }
}

async function png(state, view) {
  const picture = pictureOf(state, view);
  const planned = plan(picture);
  if (!planned) return "Not saved: this heatmap is larger than a picture can be. SVG and CSV hold all of it.";
  save(await pngBlob(picture, planned), `${fileStem(state)}.png`);
  return `Saved the whole heatmap, ${cells(state, view)}.${smaller(planned, view)}`;
}

function svg(state, view) {
  const picture = pictureOf(state, view);
  save(new Blob([svgText(picture, (from, to) => rasterUri(picture, from, to))], { type: "image/svg+xml" }), `${fileStem(state)}.svg`);
  return `Saved the whole heatmap, ${cells(state, view)}.`;
}

function csv(state, view) {
  save(new Blob(csvPieces(csvOf(state, view)), { type: "text/csv" }), `${fileStem(state)}.csv`);
  return `Saved ${view.rows * view.cols} rows at most.`;
}

function cells({ compare }, { rows, cols }) {
  return `${rows} layers x ${cols} tokens${compare?.mode === "side" ? ", the first of the two" : ""}`;
}

/** What was done to keep within a canvas. */
function smaller({ bands, cell }, { cols }) {
  const cut = bands.length > 1 ? ` It is cut into ${bands.length} bands of ${Math.ceil(cols / bands.length)} tokens.` : "";
  return cut + (bands.length > 1 || cell < 16 ? ` Cells are ${cell} pixels wide, to keep within what a browser can draw.` : "");
}

function save(blob, name) {
  const href = URL.createObjectURL(blob);
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** A page opened as a file may have no clipboard: the link then stands there, selected. */
async function copyLink(field) {
  field.value = location.href;
  field.hidden = true;
  try {
    await navigator.clipboard.writeText(location.href);
    return "Link copied.";
  } catch {
    field.hidden = false;
    field.select();
    return document.execCommand("copy") ? "Link copied." : "Copy the selected link.";
  }
}
