// Does ONNX Runtime Web compute here what the bundle's model computed when it was exported?
//
//   npm install onnxruntime-web          1.23 or newer
//   node check.mjs model.edge [fp32]
//
// A browser runs the same `check`; only the bytes come another way:
//
//   await check(async (name) => new Uint8Array(await (await fetch(`model.edge/${name}`)).arrayBuffer()), 'fp32');

// The import without /wasm brings another build to a browser: twice the size, and wrong on its WebGPU with this model.
const ort = await (globalThis.process?.versions?.node ? import('onnxruntime-web') : import('onnxruntime-web/wasm'));

/** The manifest, and a reader that returns only bytes whose SHA-256 is the manifest's. */
export async function openBundle(fetchBytes) {
  const manifest = parse(await fetchBytes('manifest.json'));
  if (manifest.schema_version !== 3) throw new Error(`schema_version is ${manifest.schema_version}, this program reads 3`);
  const read = async (name) => {
    const bytes = await fetchBytes(name);
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)); // in a browser: https or localhost only
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    if (hex !== manifest.files[name]) throw new Error(`${name} was altered or damaged`);
    return bytes;
  };
  return { manifest, read };
}

/** The entry of a list (artifacts, parity.json) for onnx/<precision>. */
function findEntry(entries, precision) {
  const found = entries.find((entry) => entry.target === 'onnx' && entry.precision === precision);
  if (!found) throw new Error(`the bundle holds no onnx/${precision}`);
  return found;
}

/** Makes the session of `onnx/<precision>`. */
export async function loadModel(bundle, precision) {
  const artifact = findEntry(bundle.manifest.artifacts, precision);
  // ort.env.wasm.numThreads stays: half of the cores, 4 at most, and 1 on a page that is not cross-origin isolated.
  return ort.InferenceSession.create(await bundle.read(artifact.path), {
    executionProviders: ['wasm'],
    enableMemPattern: false, // a planned arena would be allocated beside the first
    logSeverityLevel: 3,
  });
}

/** Runs one tile: (D, H, W) HU in a Float32Array -> (C, D, H, W) logits in another. */
export async function runTile(session, hu, [depth, height, width]) {
  const input = new ort.Tensor('float32', hu, [1, 1, depth, height, width]);
  const { logits } = await session.run({ image_hu: input });
  return logits.data; // copied out of the wasm memory, tens of megabytes: blend it and let go of it before the next tile
}

/** First tile of a scan (d, h, w) on the model's grid: its first and last slice again beyond the ends, air beside it. */
export function firstTile(hu, [d, h, w], [depth, height, width], { overlap, rows_beyond_ends, window_hu }) {
  const step = Math.max(1, Math.trunc(depth * (1 - overlap)));
  const tiles = (rows) => 1 + Math.ceil(Math.max(0, rows - depth) / step);
  let beyond = 0; // as many slices as add no tile
  while (beyond < rows_beyond_ends && tiles(d + 2 * (beyond + 1)) === tiles(d)) beyond++;
  const before = (side, whole, patch) => Math.floor((Math.max(whole, patch) - side) / 2);
  const [above, left, front] = [before(d, d + 2 * beyond, depth), before(w, w, width), before(h, h, height)];
  const tile = new Float32Array(depth * height * width).fill(window_hu[0]);
  for (let z = 0; z < depth; z++) {
    const slice = Math.min(Math.max(z - above, 0), d - 1);
    for (let y = 0; y < Math.min(h, height); y++) {
      for (let x = 0; x < Math.min(w, width); x++) {
        tile[(z * height + y + front) * width + x + left] = hu[(slice * h + y) * w + x];
      }
    }
  }
  return tile;
}

/** Labels (N) of probabilities (C, N): the class whose probability times its decision weight is the largest. */
export function decide(probabilities, { labels, postprocess }) {
  const weights = [1, ...labels.map(({ name }) => postprocess.decision_weights[name] ?? 1)];
  const voxels = probabilities.length / weights.length;
  return Uint8Array.from({ length: voxels }, (_, voxel) => {
    const weighted = weights.map((weight, c) => weight * probabilities[c * voxels + voxel]);
    return weighted.indexOf(Math.max(...weighted));
  });
}

/** Compares both rules with the golden arrays; how many values and labels differ. */
async function checkRules(bundle, { ends, decision }) {
  const differing = (found, expected) =>
    Math.max(found.length, expected.length) - found.filter((value, i) => Math.abs(value - expected[i]) <= 0.01).length;
  let wrongHu = 0;
  for (const scan of ['short', 'long']) {
    const hu = ends[`${scan}_hu`];
    const tile = firstTile(await readNumbers(bundle, hu), hu.shape, ends.patch, bundle.manifest.input);
    wrongHu += differing(tile, await readNumbers(bundle, ends[`${scan}_tile`]));
  }
  const labels = decide(await readNumbers(bundle, decision.probabilities), bundle.manifest);
  const weights = Object.keys(bundle.manifest.postprocess.decision_weights).length;
  return { wrongHu, wrongLabels: differing(labels, await readNumbers(bundle, decision.labels)), weights };
}

/** Runs the golden tile and both rules, and compares. */
export async function check(fetchBytes, precision) {
  const bundle = await openBundle(fetchBytes);
  const golden = parse(await bundle.read('golden/golden.json'));
  const { tile } = golden;
  const { tolerance } = findEntry(parse(await bundle.read('parity.json')), precision);
  const hu = Float32Array.from(await readNumbers(bundle, tile.hu));
  const expected = await readNumbers(bundle, tile.logits);

  const started = performance.now();
  const session = await loadModel(bundle, precision);
  const ready = performance.now();
  await runTile(session, hu, tile.hu.shape); // the first tile also allocates
  const warm = performance.now();
  const found = await runTile(session, hu, tile.hu.shape);
  const done = performance.now();
  await session.release(); // the wasm memory never shrinks; this makes room in it

  const figures = compare(found, tile.hu.shape, expected, tile.logits.shape, tile.stride);
  const times = { readyMs: ready - started, tileMs: done - warm };
  const rules = await checkRules(bundle, golden);
  const passed = figures.rms <= tolerance.logit_rms && rules.wrongHu + rules.wrongLabels === 0;
  return { ...figures, ...times, ...rules, allowedRms: tolerance.logit_rms, passed };
}

/** `found` is (C, D, H, W); `expected` (C, d, h, w) is every `stride`-th voxel of what it should be. */
function compare(found, [depth, height, width], expected, [classes, d, h, w], stride) {
  let squares = 0;
  let agreeing = 0;
  for (let z = 0; z < d; z++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const here = (c) => found[((c * depth + z * stride) * height + y * stride) * width + x * stride];
        const there = (c) => expected[((c * d + z) * h + y) * w + x];
        let [label, expectedLabel] = [0, 0];
        for (let c = 0; c < classes; c++) {
          squares += (here(c) - there(c)) ** 2;
          if (here(c) > here(label)) label = c;
          if (there(c) > there(expectedLabel)) expectedLabel = c;
        }
        agreeing += label === expectedLabel;
      }
    }
  }
  return { rms: Math.sqrt(squares / expected.length), agreement: agreeing / (d * h * w) };
}

/** The numbers of a golden array. They are little-endian, as is every machine that runs wasm. */
async function readNumbers(bundle, { file, dtype, shape }) {
  const Kind = { '<i2': Int16Array, '<f4': Float32Array, '|u1': Uint8Array }[dtype];
  const bytes = new Uint8Array(await bundle.read(file)); // a copy with memory of its own; a Buffer of Node may share its memory
  const size = shape.reduce((count, side) => count * side, Kind.BYTES_PER_ELEMENT);
  if (bytes.length !== size) throw new Error(`${file} has another size than its shape`);
  return new Kind(bytes.buffer);
}

function parse(bytes) {
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** Whether node was started with this file, under whatever name, and not with one that imports it. */
async function isStarted() {
  const file = globalThis.process?.argv?.[1];
  if (!file) return false;
  const [{ existsSync, realpathSync }, { pathToFileURL }] = await Promise.all([import('node:fs'), import('node:url')]);
  return existsSync(file) && import.meta.url === pathToFileURL(realpathSync(file)).href;
}

async function main([folder, precision = 'fp32']) {
  if (!folder) throw new Error('usage: node check.mjs BUNDLE [PRECISION]');
  const { readFile } = await import('node:fs/promises');
  const seen = await check((name) => readFile(`${folder}/${name}`), precision);
  const times = `ready in ${Math.round(seen.readyMs)} ms, ${Math.round(seen.tileMs)} ms a tile`;
  console.log(`onnx/${precision}: logits differ by ${seen.rms.toExponential(1)} (root mean square), allowed ${seen.allowedRms}`);
  console.log(`${seen.agreement.toFixed(5)} of the labels agree; ${times}`);
  const rules = `scan ends: ${seen.wrongHu} values differ; decision weights: ${seen.wrongLabels} labels differ`;
  console.log(`${rules}${seen.weights ? '' : ' (no weights in this bundle)'}: ${seen.passed ? 'passed' : 'failed'}`);
  process.exitCode = seen.passed ? 0 : 1;
}

if (await isStarted()) {
  await main(process.argv.slice(2)).catch((error) => {
    console.error(`error: ${error.message ?? error}`);
    process.exitCode = 1;
  });
}
