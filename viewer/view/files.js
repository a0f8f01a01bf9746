/** Files by dialog, or dropped anywhere on the page, folders too. */

/** @param {(files: File[]) => void} open */
export function acceptFiles(open) {
  for (const id of ["files", "folder"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // so that the same file can be chosen again
      if (files.length) open(files);
    });
  }
  acceptDrops(open);
}

function acceptDrops(open) {
  const sign = document.getElementById("drop-sign");
  let depth = 0; // elements entered and not left yet
  const show = (more) => {
    depth = Math.max(0, depth + more);
    sign.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => event.dataTransfer?.types.includes("Files") && show(1));
  addEventListener("dragleave", (event) => event.dataTransfer?.types.includes("Files") && show(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    show(-depth);
    const files = await droppedFiles(event.dataTransfer);
    if (files.length) open(files);
  });
}

/** Entries must be asked for before the event is over; folders are read after it. */
async function droppedFiles(transfer) {
  const items = [...(transfer?.items ?? [])].filter(({ kind }) => kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  if (!found.length) return [...(transfer?.files ?? [])];
  const lists = await Promise.all(found.map((one) => (one instanceof File ? [one] : one ? filesIn(one) : [])));
  return lists.flat();
}

async function filesIn(entry) {
  if (entry.isFile) return [located(await new Promise((resolve, reject) => entry.file(resolve, reject)), entry.fullPath)];
  const reader = entry.createReader();
  const lists = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) return (await Promise.all(lists)).flat();
    lists.push(...some.map(filesIn));
  }
}

/** A dropped file has its path as one chosen with its folder has. */
function located(file, path) {
  Object.defineProperty(file, "webkitRelativePath", { value: path.replace(/^\//, "") });
  return file;
}
