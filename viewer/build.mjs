// Bundles the parts of NiiVue that the viewer uses into qsmprep/data/viewer/niivue.js, with the licences of all that is
// in it beside it in niivue.licenses.txt. Run by `make viewer`.
import { build } from "esbuild";
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "qsmprep", "data", "viewer");

// Decoders of zarr stores hold more than half of NiiVue's bytes, as WebAssembly; the maps are NIfTI.
const withoutZarrCodecs = {
  name: "without-zarr-codecs",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^numcodecs\// }, ({ path }) => ({ path, namespace: "absent" }));
    onLoad({ filter: /.*/, namespace: "absent" }, () => ({
      contents: 'export default class { static fromConfig() { throw new Error("This viewer reads no zarr."); } }',
    }));
  },
};

const result = await build({
  stdin: { contents: 'export { Niivue, NVImage } from "@niivue/niivue";', resolveDir: here },
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  legalComments: "none",
  metafile: true,
  write: false,
  logLevel: "warning",
  plugins: [withoutZarrCodecs],
});

const inputs = Object.values(result.metafile.outputs)[0].inputs;
const packages = new Set(
  Object.entries(inputs)
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .map(([path]) => path.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1])
    .filter(Boolean),
);
const licenses = [...packages].sort().map(licence).join(`\n${"-".repeat(100)}\n\n`);
const about =
  "niivue.js is a bundle of these packages, each under its own licence. Letters on the pictures are in the font Roboto\n" +
  "(Copyright 2011 Google Inc., Apache License 2.0), which NiiVue carries.";
write("niivue.js", result.outputFiles[0].text);
write("niivue.licenses.txt", `${about}\n\n${licenses}`);
console.log(`niivue.js: ${(result.outputFiles[0].contents.length / 1024).toFixed(0)} KiB of ${[...packages].join(", ")}`);

/** Name, version and licence text of a package; NiiVue's own text lies here, since its package comes without. */
function licence(name) {
  const folder = join(here, "node_modules", name);
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.|$)/i.test(entry));
  const given = join(here, `LICENSE.${name.replace(/^@[^/]+\//, "")}`);
  const text = existsSync(given) ? given : file && join(folder, file);
  if (!text) throw new Error(`${name} (${about.license}) brings no licence text: put it into ${given}`);
  return `${name} ${about.version} (${about.license})\n\n${readFileSync(text, "utf8").trim()}\n`;
}

/** Whole or not at all: a broken build must leave no half file. */
function write(name, text) {
  writeFileSync(join(target, `.${name}.part`), text);
  renameSync(join(target, `.${name}.part`), join(target, name));
}
