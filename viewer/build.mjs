/**
 * Makes ../visualize_results.html of the modules here: one file, one inline classic script, no request to anywhere.
 *
 *     node build.mjs              write the page
 *     node build.mjs --check      exit 1 with one line when the committed page is not what the sources give
 *     node build.mjs --out FILE   write it elsewhere; --readable leaves the script unminified
 *
 * The worker is bundled first and reaches the page as a string (`import source from "virtual:worker"`), since a page
 * opened as a file may only start workers that it carries. The same sources give the same bytes on every machine.
 */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { build, transform } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = join(HERE, "..", "visualize_results.html");
const STYLES = ["style.css", "panels.css"];

/** The text of a file here; git may have checked it out with Windows' line ends. */
function textOf(...path) {
  return readFileSync(resolve(HERE, ...path), "utf8").replaceAll("\r\n", "\n");
}

/** One module and all it imports, as one classic script. */
async function bundle(entry, { readable, plugins = [] }) {
  const built = await build({
    entryPoints: [join(HERE, entry)],
    absWorkingDir: HERE,
    bundle: true,
    write: false,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    minify: !readable,
    legalComments: "none",
    logLevel: "warning",
    plugins,
  });
  return built.outputFiles[0].text.trim();
}

/** Gives `import source from "virtual:worker"` the bundled worker's text. */
function workerAsText(source) {
  return {
    name: "worker-as-text",
    setup(builder) {
      builder.onResolve({ filter: /^virtual:worker$/ }, ({ path }) => ({ path, namespace: "worker" }));
      builder.onLoad({ filter: /.*/, namespace: "worker" }, () => ({ contents: source, loader: "text" }));
    },
  };
}

/** hyparquet's modules for what no result has: filters, nested values, shapes on a map. They are a twentieth of the page. */
const UNUSED = /hyparquet[\\/]src[\\/](bloom|variant|wkb)\.js$/;

/** The same names, of functions that say so. */
function withoutUnused() {
  return {
    name: "without-unused",
    setup(builder) {
      builder.onLoad({ filter: UNUSED }, ({ path }) => {
        const names = [...readFileSync(path, "utf8").matchAll(/^export function (\w+)/gm)].map(([, name]) => name);
        const refuse = "throw new Error('a Parquet file of a kind that this page does not read')";
        return { contents: names.map((name) => `export function ${name}() { ${refuse} }`).join("\n") };
      });
    },
  };
}

/** A script's text that cannot end its element, nor open a comment that hides the end; in strings it means the same. */
function safeScript(text) {
  return text.replace(/<(\/script|script|!--)/gi, "\\x3C$1");
}

/** A style's text that cannot end its element. */
function safeStyle(text) {
  return text.replace(/<\/style/gi, "\\3C/style");
}

/** The licence that hyparquet (MIT) asks to be kept with copies of its code. */
function notice() {
  const { name, version } = JSON.parse(textOf("node_modules", "hyparquet", "package.json"));
  const licence = textOf("node_modules", "hyparquet", "LICENSE").trim().replaceAll("*/", "* /");
  return `/*! Contains ${name} ${version}.\n${licence}\n*/`;
}

/** The template with each placeholder filled. */
function fill(template, parts) {
  return Object.entries(parts).reduce((page, [name, text]) => {
    const pieces = page.split(`<!-- ${name} -->`);
    if (pieces.length !== 2) throw new Error(`index.html needs <!-- ${name} --> exactly once`);
    return pieces.join(text);
  }, template);
}

async function page(options) {
  const worker = await bundle("read/worker.js", { ...options, plugins: [withoutUnused()] });
  const main = await bundle("main.js", { ...options, plugins: [workerAsText(worker)] });
  const css = STYLES.filter((name) => existsSync(join(HERE, name)))
    .map((name) => textOf(name))
    .join("\n");
  const { code } = await transform(css, { loader: "css", minify: !options.readable, charset: "utf8" });
  return fill(textOf("index.html"), {
    style: `<style>${safeStyle(code.trim())}</style>`,
    script: `<script>\n${notice()}\n${safeScript(main)}\n</script>`,
  });
}

const { values: options } = parseArgs({
  options: { check: { type: "boolean" }, out: { type: "string", default: PAGE }, readable: { type: "boolean" } },
});
const made = await page(options).catch((error) => {
  if (!error.errors) console.error(error.message); // esbuild has told its own already
  process.exit(1);
});
if (!options.check) {
  writeFileSync(options.out, made);
  console.log(`${options.out}: ${(Buffer.byteLength(made) / 1000).toFixed(1)} KB`);
} else if (!existsSync(options.out) || textOf(resolve(options.out)) !== made) {
  console.error("visualize_results.html is not what viewer/ gives: run `make viewer` and commit it");
  process.exit(1);
}
