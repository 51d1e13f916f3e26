// The web worker: Python (Pyodide) with the package autosam_edge beside ONNX Runtime Web. Python hands out a
// tile, JavaScript awaits the network, Python goes on. Reading, geometry and writing are Python's alone.

/** Memories of WebAssembly that were made in this worker, to tell how large they are. */
const memories = [];
const Memory = WebAssembly.Memory;
WebAssembly.Memory = function (descriptor) {
  const memory = new Memory(descriptor);
  memories.push(memory);
  return memory;
};
WebAssembly.Memory.prototype = Memory.prototype;

const MODEL = '/model';
const SCAN = '/scan';
const OUT = '/out';
const MAX_THREADS = 4;

class Failure extends Error {
  constructor(code, message, remedy, exitCode = 5) {
    super(message);
    this.answer = { code, message, remedy, exitCode };
  }
}

let base, site, python, worker, network;
const cancelled = new Set();
let queue = Promise.resolve();

self.onmessage = ({ data }) => {
  if (data.cancel) cancelled.add(data.cancel);
  else queue = queue.then(() => answer(data));
};

async function answer({ id, method, argument }) {
  const tell = (progress) => self.postMessage({ id, progress });
  try {
    if (cancelled.has(id)) return;
    const [value, transfer] = await METHODS[method](argument ?? {}, tell, () => cancelled.has(id));
    self.postMessage({ id, value }, transfer ?? []);
  } catch (error) {
    const unexpected = { code: 'AE-INTERNAL-001', message: `unexpected ${error.name}.`, exitCode: 1,
      remedy: 'Open the page again; if it stays, report it with the kind of scan.' };
    if (!error.answer) console.error(error);
    self.postMessage({ id, error: error.answer ?? unexpected });
  } finally {
    cancelled.delete(id);
  }
}

/** The value of a JSON answer of Python. */
function unpack(text) {
  const { value, error } = JSON.parse(text);
  if (error) throw new Failure(error.code, error.message, error.remedy, error.exitCode);
  return value;
}

async function load(path) {
  const response = await fetch(new URL(path, base)).catch(() => null);
  if (!response?.ok)
    throw new Failure('AE-ENGINE-010', `the file ${path} of the site cannot be loaded.`,
      'Connect to the network and open the page again, or export the site again.');
  return new Uint8Array(await response.arrayBuffer());
}

const json = async (path) => JSON.parse(new TextDecoder().decode(await load(path)));

const METHODS = {
  async open({ base: folder, threads, provider }, tell) {
    base = folder;
    const start_ms = {};
    let started = performance.now();
    const stages = ['python', 'packages', 'model', 'verify'];
    const stage = (name) => tell({ stage: name, done: 0, total: 1, fraction: stages.indexOf(name) / 4, seconds_left: null });
    const lap = (name) => {
      start_ms[name] = Math.round(performance.now() - started);
      started = performance.now();
    };
    stage('python');
    site = await json('site.json');
    const indexURL = new URL(site.python.folder, base).href;
    const starting = import(new URL('pyodide.mjs', indexURL).href).then(({ loadPyodide }) => loadPyodide({ indexURL }));
    const packages = Promise.all(site.python.packages.map(async (path) => [path, await load(path)]));
    const model = Promise.all(site.model.files.map(async (name) => [name, await load(site.model.folder + name)]));
    packages.catch(() => {}); // both are awaited below
    model.catch(() => {});
    python = await starting;
    lap('python');
    stage('packages');
    const extractDir = python.runPython('import sysconfig; sysconfig.get_path("purelib")');
    for (const [path, bytes] of await packages) python.unpackArchive(bytes, path.endsWith('.whl') ? 'wheel' : 'zip', { extractDir });
    for (const [name, bytes] of await model) put(name, bytes);
    worker = python.runPython(`from autosam_edge.browser.worker import Worker; Worker("${MODEL}")`);
    lap('packages');
    stage('model');
    const refused = await choose(provider, threads, () => {
      lap('model');
      stage('verify');
    });
    lap('verify');
    setTimeout(() => (queue = queue.then(prepare).catch(console.error))); // after the answer, while a person chooses files
    const { provider: name, threads: used, precision, sha256 } = network;
    return [{ ...unpack(worker.about()), provider: name, providers: Object.keys(site.providers), threads: used, precision, model_sha256: sha256, refused, start_ms }];
  },

  async verify() {
    return [unpack(await worker.verify(network.artifact, network.title, network))];
  },

  async timeTiles({ count }) {
    return [unpack(await worker.time_tiles(count, network))];
  },

  async demo() {
    unpack(worker.demo());
    const file = nifti('view_image');
    worker.clear();
    return [file, [file]];
  },

  async listSeries({ files }) {
    return [await mounted(files, () => unpack(worker.list_series(SCAN)))];
  },

  async segment({ files, request }, tell, isCancelled) {
    const pace = paceOf(tell);
    const report = (stage, done, total) => {
      pace(stage, done, total);
      return isCancelled();
    };
    const answer = await mounted(files, () => worker.segment(SCAN, OUT, JSON.stringify(request), network, report));
    try {
      const { view: cuts, ...summary } = unpack(answer);
      const view = { ...cuts, image: nifti('view_image'), labels: nifti('view_labels'), labels_3d: nifti('view_3d') };
      // Where the view has the scan's own grid, its voxels are the labels.
      const labels = view.reduced ? new Uint8Array(copied('labels').buffer) : new Uint8Array(view.labels, 352);
      const results = {};
      for (const name of python.FS.readdir(OUT).filter((entry) => !entry.startsWith('.')))
        results[name] = python.FS.readFile(`${OUT}/${name}`);
      const buffers = [view.image, labels.buffer, view.labels, view.labels_3d, ...Object.values(results).map((bytes) => bytes.buffer)];
      return [{ ...summary, labels, view, files: results }, [...new Set(buffers)]];
    } finally {
      worker.clear();
      python.runPython(`import shutil; shutil.rmtree("${OUT}", ignore_errors=True)`);
    }
  },

  async memory() {
    const mb = (bytes) => Math.round(bytes / 2 ** 20);
    const heap = python._module.HEAP8.buffer;
    const others = memories.map(({ buffer }) => buffer).filter((buffer) => buffer !== heap);
    return [{ python_mb: mb(heap.byteLength), network_mb: mb(others.reduce((sum, { byteLength }) => sum + byteLength, 0)) }];
  },
};

/** Import what only a scan needs; a scan would do it otherwise. */
function prepare() {
  python.runPython('import autosam_edge.dicom.segmentation, autosam_edge.formats.nifti');
}

/** Store a file of the model where Python finds it. */
function put(name, bytes) {
  const path = `${MODEL}/${name}`;
  python.FS.mkdirTree(path.slice(0, path.lastIndexOf('/')));
  python.FS.writeFile(path, bytes);
}

/** Mount the chosen files without a copy of them, and call a function. */
async function mounted(files, use) {
  const taken = new Set();
  const blobs = files.map((data, index) => {
    let name = data.webkitRelativePath || data.name;
    if (taken.has(name)) name = `${index}/${name}`; // files of two folders, chosen one by one
    taken.add(name);
    return { name, data };
  });
  python.FS.mkdirTree(SCAN);
  python.FS.mount(python.FS.filesystems.WORKERFS, { blobs }, SCAN);
  try {
    return await use();
  } finally {
    python.FS.unmount(SCAN);
  }
}

/** A copy of an array of Python, which the page may keep. */
function copied(name) {
  const arrays = worker.arrays;
  const array = arrays.get(name);
  const view = array.getBuffer();
  const copy = view.data.slice();
  for (const proxy of [view, array, arrays]) (proxy.release ?? proxy.destroy).call(proxy);
  return copy;
}

/** One buffer with header and voxels. */
function nifti(name) {
  const header = copied(`${name}_header`);
  const voxels = copied(name);
  const file = new Uint8Array(header.length + voxels.byteLength);
  file.set(header);
  file.set(new Uint8Array(voxels.buffer), header.length);
  return file.buffer;
}

/** Find a provider that computes what the model computed at export; those before it are refused by name. */
async function choose(wanted, threads, onLoaded) {
  const refused = [];
  let reason;
  for (const candidate of candidates(wanted, threads)) {
    try {
      network = await connect(candidate);
      onLoaded();
      unpack(await worker.prove(network.artifact, network.title, network));
      return refused;
    } catch (error) {
      if (!error.answer) console.error(error);
      await network?.session.release().catch(() => {});
      network = undefined;
      reason = error.answer ? error : new Failure('AE-ENGINE-002', `ONNX Runtime Web does not start with ${candidate.title}.`,
        'Use another browser or device, and report the failure.');
      refused.push({ provider: candidate.title, code: reason.answer.code, message: reason.message });
    }
  }
  throw reason;
}

function candidates(wanted, threads) {
  const cores = Math.ceil((self.navigator?.hardwareConcurrency ?? 1) / 2);
  const many = self.crossOriginIsolated ? Math.max(1, threads ?? Math.min(MAX_THREADS, cores)) : 1;
  const wasm = [...new Set([many, 1])].map((count) =>
    ({ provider: 'wasm', threads: count, title: count === 1 ? 'wasm' : `wasm with ${count} threads` }));
  return wanted === 'webgpu' ? [{ provider: 'webgpu', threads: 1, title: 'webgpu' }, ...wasm] : wasm;
}

/** Load the artifact of a provider into ONNX Runtime Web. */
async function connect({ provider, threads, title }) {
  const setting = site.providers[provider];
  if (!setting)
    throw new Failure('AE-ENGINE-006', `this site was exported without ${provider}.`, 'Export it with that provider.');
  if (provider === 'webgpu' && !(await self.navigator?.gpu?.requestAdapter().catch(() => null)))
    throw new Failure('AE-ENGINE-006', 'this browser offers no WebGPU.', 'Use another browser or device.');
  const file = `${site.model.folder}${setting.path}`;
  const model = await load(file);
  put(setting.path, model);
  const { precision, sha256 } = unpack(worker.artifact(setting.artifact));
  python.FS.unlink(`${MODEL}/${setting.path}`);
  // The number of threads is fixed once a module has started, so that each number gets its own.
  const ort = await import(`${new URL(setting.library, base)}?threads=${threads}`);
  ort.env.wasm.wasmPaths = new URL('.', new URL(setting.library, base)).href;
  ort.env.wasm.numThreads = threads;
  let session;
  try {
    session = await ort.InferenceSession.create(model, {
      executionProviders: [provider],
      enableMemPattern: false, // a planned arena would be allocated beside the first
      logSeverityLevel: 3,
      ...(setting.all_on_provider ? { extra: { session: { disable_cpu_ep_fallback: '1' } } } : {}),
    });
  } catch (error) {
    console.error(error);
    throw new Failure('AE-ENGINE-002', `ONNX Runtime Web cannot load the model with ${title}.`, 'Use another provider.');
  }
  const name = provider === 'wasm' ? 'onnxruntime-web' : `onnxruntime-web ${provider}`;
  const version = ort.env.versions.web;
  const description = JSON.stringify({ name, version, precision, threads: String(threads), sha256 });
  const run = (tile, logits) => runTile(ort, session, tile, logits);
  return { artifact: setting.artifact, title, provider, threads, precision, sha256, session, description, run };
}

async function runTile(ort, session, tile, logits) {
  const side = site.model.patch;
  const source = tile.getBuffer('f32');
  const hu = source.data.slice();
  source.release();
  const { [session.outputNames[0]]: output } =
    await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', hu, [1, 1, ...side]) });
  const values = await output.getData();
  const target = logits.getBuffer('f32');
  target.data.set(values);
  target.release();
  output.dispose?.();
  await new Promise((next) => setTimeout(next)); // a message to cancel arrives between two tiles
}

/** Progress with an estimate of the time left, from the time of the stages so far. */
function paceOf(tell) {
  const share = { read: 0.15, network: 0.6, measure: 0.05, write: 0.15, view: 0.05 };
  const names = Object.keys(share);
  const started = performance.now();
  let networkFrom = started;
  return (stage, done, total) => {
    const now = performance.now();
    if (stage === 'network' && done === 0) networkFrom = now;
    const before = names.slice(0, names.indexOf(stage)).reduce((sum, name) => sum + share[name], 0);
    const fraction = before + (share[stage] * done) / total;
    let seconds_left = null;
    if (stage === 'network' && done > 0)
      seconds_left = ((now - networkFrom) / done) * (total - done) / 1000 + ((networkFrom - started) / 1000);
    else if (before > share.read) seconds_left = ((now - started) / 1000) * (1 / fraction - 1);
    tell({ stage, done, total, fraction, seconds_left });
  };
}
