/** Files by dialog, or dropped anywhere on the page, folders too. */

const UNREADABLE = "The browser does not let this page read the dropped folder. “Open folder” does.";

/**
 * @param {(files: File[]) => void} open
 * @param {object} notices
 */
export function acceptFiles(open, notices) {
  for (const id of ["files", "folder"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // so that the same file can be chosen again
      if (files.length) open(files);
    });
  }
  acceptDrops(open, notices);
}

function acceptDrops(open, notices) {
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
    try {
      const files = await droppedFiles(event.dataTransfer);
      if (files.length) open(files);
    } catch {
      notices.error(UNREADABLE);
    }
  });
}

/**
 * Files are taken as they are. A folder is read by its handle, where there is one: Chromium does not let a page that is
 * opened as a file read it by its entry. All must be asked for before the event is over.
 */
async function droppedFiles(transfer) {
  const items = [...(transfer?.items ?? [])].filter(({ kind }) => kind === "file");
  if (!items.length) return [...(transfer?.files ?? [])];
  const found = items.map((item) => {
    const entry = item.webkitGetAsEntry?.() ?? null;
    return entry?.isDirectory ? { entry, handle: item.getAsFileSystemHandle?.() } : { file: item.getAsFile() };
  });
  const lists = await Promise.all(
    found.map(({ file, entry, handle }) => (file === undefined ? filesInFolder(entry, handle) : file ? [file] : [])),
  );
  return lists.flat();
}

async function filesInFolder(entry, handle) {
  const folder = await handle?.catch(() => null);
  return folder ? filesByHandle(folder, folder.name) : filesByEntry(entry);
}

async function filesByHandle(folder, path) {
  const lists = [];
  for await (const [name, one] of folder.entries()) {
    lists.push(
      one.kind === "directory"
        ? filesByHandle(one, `${path}/${name}`)
        : one.getFile().then((file) => [located(file, `${path}/${name}`)]),
    );
  }
  return (await Promise.all(lists)).flat();
}

async function filesByEntry(entry) {
  if (entry.isFile)
    return [located(await new Promise((resolve, reject) => entry.file(resolve, reject)), entry.fullPath)];
  const reader = entry.createReader();
  const lists = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) return (await Promise.all(lists)).flat();
    lists.push(...some.map(filesByEntry));
  }
}

/** A dropped file has its path as one chosen with its folder has. */
function located(file, path) {
  Object.defineProperty(file, "webkitRelativePath", { value: path.replace(/^\//, "") });
  return file;
}
