// Runs the worker of an exported site in node: node node_worker.mjs '{"site": ..., "scans": [{"folder": ...}]}'
// prints one JSON object. What a browser offers beyond node is put in its place: fetch of a file, messages, and
// synchronous reading of a File.
import { mkdirSync, mkdtempSync, openSync, readFileSync, readSync, readdirSync, rmdirSync, statSync, symlinkSync, unlinkSync,
  writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const asked = JSON.parse(process.argv[2]);
const base = `${pathToFileURL(path.resolve(asked.site))}/`;
const fetched = globalThis.fetch;
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {}; // so that Pyodide mounts files
globalThis.fetch = async (url, options) =>
  String(url).startsWith('file:') ? new Response(readFileSync(fileURLToPath(String(url).split('?')[0])),
    { headers: { 'Content-Type': String(url).includes('.wasm') ? 'application/wasm' : '' } }) : fetched(url, options);

/** A part of a file, which the reader below reads when Python asks for it. */
class DiskFile {
  constructor(file, name, start = 0, end = statSync(file).size) {
    Object.assign(this, { file, name, start, size: end - start });
  }

  slice(start, end) {
    return new DiskFile(this.file, this.name, this.start + start, Math.min(this.start + end, this.start + this.size));
  }
}
globalThis.FileReaderSync = class {
  readAsArrayBuffer(part) {
    const bytes = new Uint8Array(part.size);
    readSync(openSync(part.file), bytes, 0, part.size, part.start);
    return bytes.buffer;
  }
};

const waiting = new Map();
let count = 0;
globalThis.postMessage = ({ id, value, error, progress }) => {
  const call = waiting.get(id);
  if (progress) return call.progress.push(progress);
  call.done(error ? { error } : { value });
};
// In node Pyodide takes file:///folder for a path below the current folder; here it is one.
const folder = mkdtempSync(path.join(tmpdir(), 'autosam-edge-node-'));
process.chdir(folder);
symlinkSync('/', 'file:');
process.on('exit', () => {
  unlinkSync(path.join(folder, 'file:'));
  process.chdir('/');
  rmdirSync(folder);
});
await import(new URL('worker.mjs', base));
function call(method, argument, cancelAt) {
  const id = ++count;
  const progress = [];
  if (cancelAt) progress.push = (step) => step.stage === cancelAt && self.onmessage({ data: { cancel: id } });
  return new Promise((done) => {
    waiting.set(id, { done, progress });
    self.onmessage({ data: { id, method, argument } });
  });
}

function filesOf(folder) {
  if (statSync(folder).isFile()) return [new DiskFile(folder, path.basename(folder))];
  return readdirSync(folder, { recursive: true }).map((name) => new DiskFile(path.join(folder, name), name))
    .filter(({ file }) => statSync(file).isFile());
}

const found = { start: await call('open', { base, ...asked.open }) };
if (asked.verify) found.checks = await call('verify');
for (const { folder, request = {}, out, cancel_at } of asked.scans ?? []) {
  const files = filesOf(folder);
  const series = await call('listSeries', { files });
  const { value, error } = await call('segment', { files, request }, cancel_at);
  if (value && out) {
    mkdirSync(out, { recursive: true });
    for (const [name, bytes] of Object.entries(value.files)) writeFileSync(path.join(out, name), bytes);
    writeFileSync(path.join(out, 'labels.u8'), value.labels);
    for (const name of ['image', 'labels']) writeFileSync(path.join(out, `view_${name}.nii`), new Uint8Array(value.view[name]));
  }
  const { labels, view, files: results, ...summary } = value ?? {};
  (found.scans ??= []).push(error ? { series, error } : { series, ...summary, files: Object.keys(results) });
}
found.memory = await call('memory');
console.log(JSON.stringify(found));
process.exit(0);
