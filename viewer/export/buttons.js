/** What can be taken away: the whole heatmap as PNG or SVG, the view as CSV, a link to what is shown. */
import { element } from "../view/element.js";
import { currentView, otherView } from "../view/state.js";
import { columnName, rowName } from "../view/words.js";
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
  const saving = (act) => async () => {
    status.textContent = await answer(act, store);
  };
  root.classList.add("export");
  root.append(
    button("PNG", "The whole heatmap as a picture", saving(png)),
    button("SVG", "The whole heatmap as a drawing, text as text", saving(svg)),
    button("CSV", "The numbers of this view, with those of positions left out of the scale", saving(csv)),
    button("Copy link", "A link to what is shown now", async () => {
      status.textContent = await copyLink(link);
    }),
    link,
    status,
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
  const pictures = views(state, view).map((one) => ({ one, picture: pictureOf(state, one) }));
  const plans = pictures.map(({ picture }) => plan(picture));
  if (plans.includes(null))
    return "Not saved: this heatmap is larger than a picture can be. SVG and CSV hold all of it.";
  for (const [index, { one, picture }] of pictures.entries())
    save(await pngBlob(picture, plans[index]), `${stem(state, one, index)}.png`);
  return `Saved the whole heatmap, ${cells(state, view)}.${smaller(plans[0], view)}`;
}

function svg(state, view) {
  for (const [index, one] of views(state, view).entries()) {
    const picture = pictureOf(state, one);
    const text = svgText(picture, (from, to) => rasterUri(picture, from, to));
    save(new Blob([text], { type: "image/svg+xml" }), `${stem(state, one, index)}.svg`);
  }
  return `Saved the whole heatmap, ${cells(state, view)}.`;
}

/** The picture, and the second one where two stand side by side. */
function views(state, view) {
  return [view, state.compare?.mode === "side" && otherView(state)].filter(Boolean);
}

function stem(state, { place }, index) {
  return index ? `${fileStem(state, place)}_compared` : fileStem(state, place);
}

function csv(state, view) {
  save(new Blob(csvPieces(csvOf(state, view)), { type: "text/csv" }), `${fileStem(state)}.csv`);
  return `Saved ${view.rows * view.cols} rows at most${state.compare?.mode === "side" ? ", of the first picture" : ""}.`;
}

function cells({ compare }, { rows, cols, place }) {
  return `${rows} ${rowName(place)}s x ${cols} ${columnName(place)}s${compare?.mode === "side" ? ", and the second in a file of its own" : ""}`;
}

/** What was done to keep within a canvas. */
function smaller({ bands, cell }, { cols }) {
  const cut =
    bands.length > 1 ? ` It is cut into ${bands.length} bands of ${Math.ceil(cols / bands.length)} tokens.` : "";
  return (
    cut +
    (bands.length > 1 || cell < 16 ? ` Cells are ${cell} pixels wide, to keep within what a browser can draw.` : "")
  );
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
