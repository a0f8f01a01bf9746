/** The page: makes the store, the heatmaps and the panels, and wires them to files and to the address. */
import { exportButtons } from "./export/buttons.js";
import { openEmbedded, openFiles } from "./read/open.js";
import { promptLabel } from "./read/run.js";
import { createCompare } from "./view/compare.js";
import { createControls } from "./view/controls.js";
import { acceptFiles } from "./view/files.js";
import { createHeads } from "./view/heads.js";
import { createHeatmap } from "./view/heatmap.js";
import { createHelp } from "./view/help.js";
import { createImages } from "./view/images.js";
import { listenToKeys } from "./view/keys.js";
import { createLead } from "./view/lead.js";
import { createLegend } from "./view/legend.js";
import { createLibrary } from "./view/library.js";
import { keepAddress } from "./view/address.js";
import { createNotices } from "./view/notices.js";
import { createProfile } from "./view/profile.js";
import { readWhatIsNeeded } from "./view/reading.js";
import { createRuns } from "./view/runs.js";
import { createSearch } from "./view/search.js";
import { afterDrawing, createStore, currentView, otherView } from "./view/state.js";
import { createSteps } from "./view/steps.js";
import { createText } from "./view/text.js";
import { createTheme, startTheme } from "./view/theme.js";
import { createTitle } from "./view/title.js";
import { createTop } from "./view/top.js";
import { warmUp } from "./view/warm.js";

const theme = startTheme(); // before anything is drawn: no flash of the other one
const at = (id) => document.getElementById(id);

function start() {
  const store = createStore(theme);
  const notices = createNotices(at("errors"), at("progress"));
  const panels = afterDrawing(store);
  createTitle(store, panels);
  const map = createHeatmap(at("heatmap"), store, {
    viewOf: currentView,
    name: "Heatmap of layers and tokens",
    cells: "cells",
  });
  const other = createHeatmap(at("other-heatmap"), store, {
    viewOf: otherView,
    name: "The heatmap compared with",
    cells: "other-cells",
    linked: true,
  });
  readWhatIsNeeded(store, notices);
  createTheme(store);
  createControls(store, map);
  const steps = createSteps(store);
  createLegend(at("legend"), panels);
  const library = createLibrary(store, notices);
  createCompare(store, library, [map, other]);
  const runs = createRuns(at("runs"), store, library);
  const search = createSearch(store, map);
  makePanels(panels, store);
  const help = createHelp(at("help"), at("help-button"));
  listenToKeys({ store, map, steps, runs, search, help });
  const address = keepAddress(store, panels);
  const open = (files) => library.open(files, openFiles, address);
  acceptFiles(open, notices);
  openEmbedded(document).then(
    (result) => result && library.add(embedded(result), address),
    (error) => notices.error(error.message),
  );
  setTimeout(warmUp, 50);
}

function makePanels(panels, store) {
  createLead(at("lead"), panels);
  createText(at("text"), panels);
  createProfile(at("profile"), panels);
  createTop(at("top"), panels);
  createHeads(at("heads"), panels);
  createImages(at("images"), panels);
  exportButtons(at("export"), store);
}

/** A report's run, as an entry of the list. */
function embedded(result) {
  const { id, name, part, sources, run } = result;
  return {
    id,
    name,
    part,
    sources,
    label: promptLabel(run),
    load: () => Promise.resolve(result),
    release() {},
  };
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
