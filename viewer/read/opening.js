/** Chosen or dropped files become runs, by name: listed at once, each read when it is first shown. */
import { ReadError, named } from "./errors.js";
import { makeResult } from "./result.js";
import {
  checkRows,
  digits,
  incomplete,
  promptKey,
  promptLabel,
  readRun,
  readRunFile,
  sameTokens,
  tokensKey,
} from "./run.js";

const PREFERRED = ["parquet", "csv", "json"]; // of a run that lies there in several formats
const READ_FOR_LIST = 4 << 20; // bytes of a run file that is read for its prompt alone
const BESIDE = /(^|\/)\.|_report\.html$|_summary\.csv$/i; // what a batch leaves beside its results, and parts of unfinished runs
const KNOCKOUT = /_knockout\.(csv|json|parquet)$/i; // tables beside the results; what the page shows of them is in the run file
const NAME = /^(.+?)(_results|_run)?\.(csv|json|parquet|jsonl|ndjson)$/is;

/**
 * @typedef {object} Group  the files of one run
 * @property {string} name
 * @property {string} folder  "" where the browser does not say
 * @property {Record<string, File>} tables  by format
 * @property {File|null} run
 * @property {boolean} [failed]  it could not be read
 */

/**
 * @param {(file: File, format: string, options: object) => Promise<object>} readTable  table.js's, here or in a worker
 * @returns {(files: Iterable<File>, handlers: object) => Promise<void>} openFiles; see open.js
 */
export function createOpener(readTable) {
  const opened = []; // { id, group } of every run listed
  return async function openFiles(files, { onProgress, onResult, onError } = {}) {
    const given = [...files];
    const all = given.filter((file) => !KNOCKOUT.test(file.name));
    if (given.length && !all.length) onError?.(told(given, "knock-outs, shown from the run file"));
    const results = all.filter((file) => !BESIDE.test(pathOf(file)));
    const chosen = results.length ? results : all;
    const groups = groupFiles(chosen);
    const unused = chosen.filter((file) => !NAME.test(file.name));
    const kind = unused.length === 1 ? "file" : "files";
    if (unused.length) onError?.(told(unused, `no CSV, JSON or Parquet ${kind}, so not used`));
    for (const alone of groups) {
      const group = joined(alone, opened);
      const look = await firstLook(group);
      for (const fault of look.faults) onError?.(fault);
      if (look.listed) onResult?.(makeEntry(group, idOf(group, opened, groups), look, readTable, onProgress));
    }
  };
}

/** @returns {Group[]} by folder and name */
export function groupFiles(files) {
  const groups = new Map();
  for (const file of files) {
    const match = NAME.exec(file.name);
    if (!match) continue;
    const [, stem, suffix, ending] = match;
    const format = ending.toLowerCase().replace(/jsonl|ndjson/, "json"); // which says what is wrong with it
    const isRun = suffix?.toLowerCase() === "_run" && format === "json";
    const name = isRun || suffix?.toLowerCase() === "_results" ? stem : `${stem}${suffix ?? ""}`;
    const folder = (file.webkitRelativePath ?? "").split("/").slice(0, -1).join("/");
    const key = (of) => `${folder}/${of}`.toLowerCase();
    let group = groups.get(key(name)) ?? { name, folder, tables: {}, run: null };
    const doubled = isRun ? group.run : group.tables[format]; // x.csv beside x_results.csv
    if (doubled) group = { name: file.name, folder, tables: {}, run: null };
    groups.set(key(group.name), group);
    if (isRun) group.run = file;
    else group.tables[format] = file;
  }
  return [...groups.values()].sort((one, other) =>
    `${one.folder}/${one.name}`.localeCompare(`${other.folder}/${other.name}`, "en", { numeric: true }),
  );
}

function pathOf(file) {
  return file.webkitRelativePath || file.name;
}

/** One sentence for all of these files. */
function told(files, what) {
  return { file: files[0].name, sentence: `${files.map(pathOf).join(", ")}: ${what}` };
}

/** A run file that comes alone joins the table of its name that was opened before. */
function joined(group, opened) {
  if (Object.keys(group.tables).length) return group;
  const before = opened.findLast(({ group: other }) => other.name === group.name);
  return before ? Object.assign(before.group, { run: group.run }) : group;
}

/**
 * The run's name: with its folder before it where runs of other folders have it too, and a number behind it if all that
 * is taken. The same files again, or mended ones, have the same id.
 */
function idOf(group, opened, together) {
  const same = opened.find(({ group: other }) => other === group || sameFiles(other, group));
  if (same) {
    same.group = group;
    return same.id;
  }
  const taken = new Set(opened.map(({ id }) => id));
  const others = [...together, ...opened.map(({ group: other }) => other)].filter(({ name }) => name === group.name);
  const name = [
    ...differing(
      group.folder,
      others.map(({ folder }) => folder),
    ),
    group.name,
  ].join("/");
  let id = name;
  for (let number = 2; taken.has(id); number++) id = `${name} (${number})`;
  opened.push({ id, group });
  return id;
}

/** The parts of a folder's path behind those that all these folders begin with. */
function differing(folder, folders) {
  const parts = (path) => path.split("/").filter(Boolean);
  const own = parts(folder);
  const from = own.findIndex((part, place) => folders.some((other) => parts(other)[place] !== part));
  return from < 0 ? [] : own.slice(from);
}

function sameFiles(one, other) {
  if (one.name !== other.name || one.folder !== other.folder) return false;
  return (
    one.failed ||
    PREFERRED.every((format) => {
      const [first, second] = [one.tables[format], other.tables[format]];
      return (
        first === second ||
        (first && second && first.size === second.size && first.lastModified === second.lastModified)
      );
    })
  );
}

/** What the list shows of a run, the key of its prompt's tokens where they are known, and what is wrong with its run file. */
async function firstLook(group) {
  const look = { label: "", tokens: null, part: null, faults: [], listed: Object.keys(group.tables).length > 0 };
  const { run } = group;
  if (run === null || (look.listed && run.size > READ_FOR_LIST)) return look;
  try {
    const record = await readRunFile(run);
    look.label = promptLabel(record);
    look.tokens = promptKey(record);
    look.part = record.part === "encoder" ? "encoder" : "decoder";
    if (!look.listed) {
      throw new ReadError(
        incomplete(record) ??
          `is the run file of ${group.name}, but its table (${group.name}_results.csv, .json or .parquet) is not there`,
      );
    }
  } catch (error) {
    look.faults.push(faultOf(named(error, run.name)));
    look.listed &&= !error.newer;
    group.run = null;
  }
  return look;
}

/** @returns {{file: string, sentence: string}} */
export function faultOf(error) {
  return { file: error.file ?? "", sentence: error.message };
}

function makeEntry(group, id, { label, tokens, part }, readTable, onProgress) {
  const format = PREFERRED.find((one) => group.tables[one]);
  const file = group.tables[format];
  const sources = [{ file: file.name, format, bytes: file.size }];
  if (group.run) sources.push({ file: group.run.name, format: "run", bytes: group.run.size });
  const entry = { id, name: group.name, label, tokens, part, sources, load, release };
  let result = null;
  function load(options = {}) {
    const progress = options.onProgress ?? onProgress;
    result ??= readResult({ file, format, run: group.run, about: { id, name: group.name, sources } }, readTable, {
      signal: options.signal,
      onProgress: (done) => progress?.({ file: file.name, done, total: file.size }),
    })
      .then((made) => {
        entry.tokens ??= tokensKey(made.tokens(0).map(({ text }) => text));
        entry.part = made.part;
        return made;
      })
      .catch((error) => {
        result = null; // so that it can be tried again
        group.failed = true;
        throw named(error, file.name);
      });
    return result;
  }
  function release() {
    result?.then(
      (made) => made.close(),
      () => {},
    );
    result = null;
  }
  return entry;
}

async function readResult({ file, format, run, about }, readTable, options) {
  const notes = [];
  let record =
    run &&
    (await readRunFile(run).catch((error) => {
      throw named(error, run.name);
    }));
  const answer = await readTable(file, format, { ...options, ...digits(record) });
  record ??= recordInside(answer.run, notes);
  if (answer.table.unended)
    notes.push(`${file.name} ends without a line end; if it was cut short there, its last number has lost digits.`);
  const runFile = run?.name ?? "its run record";
  if (record) {
    checkRows(answer.table, record, runFile);
    notes.push(...doubts(record, answer.table, runFile));
  } else {
    notes.push(`No run file (${about.name}_run.json): no relative distances, noise floor or next tokens.`);
  }
  return makeResult(answer.table, { ...about, run: record, notes, loadBlock: answer.loadBlock, close: answer.close });
}

/** The run record that a Parquet file holds; null with a note if it cannot be used. */
function recordInside(text, notes) {
  if (text === null || text === undefined) return null;
  try {
    return readRun(text);
  } catch (error) {
    if (error.newer) throw error;
    notes.push(`The run record inside the file ${error.message}.`);
    return null;
  }
}

function doubts(record, table, runFile) {
  const lacking = incomplete(record);
  return [
    lacking && `${runFile} ${lacking}; the table may be older, or not whole.`,
    !sameTokens(table, record) &&
      `The tokens in ${runFile} are not those of the table; the two may be of different runs.`,
  ].filter(Boolean);
}
