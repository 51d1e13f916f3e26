// Does ONNX Runtime Web compute here what the bundle's model computed when it was exported?
//
//   npm install onnxruntime-web          1.23 or newer
//   node check.mjs model.edge [fp32]
//
// A browser runs the same `check`; only the bytes come another way:
//
//   await check(async (name) => new Uint8Array(await (await fetch(`model.edge/${name}`)).arrayBuffer()), 'fp32');

import * as ort from 'onnxruntime-web';

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

/** Makes the session of `onnx/<precision>`. */
export async function loadModel(bundle, precision) {
  const artifact = bundle.manifest.artifacts.find((entry) => entry.target === 'onnx' && entry.precision === precision);
  if (!artifact) throw new Error(`the bundle holds no onnx/${precision}`);
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

/** Runs the golden tile and compares. */
export async function check(fetchBytes, precision) {
  const bundle = await openBundle(fetchBytes);
  const { tile } = parse(await bundle.read('golden/golden.json'));
  const entries = parse(await bundle.read('parity.json'));
  const { tolerance } = entries.find((entry) => entry.target === 'onnx' && entry.precision === precision);
  const hu = Float32Array.from(toNumbers(await bundle.read(tile.hu.file), tile.hu.dtype));
  const expected = toNumbers(await bundle.read(tile.logits.file), tile.logits.dtype);

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
  return { ...figures, ...times, allowedRms: tolerance.logit_rms, passed: figures.rms <= tolerance.logit_rms };
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

/** Raw numbers of the bundle. They are little-endian, as is every machine that runs wasm. */
function toNumbers(bytes, dtype) {
  const kinds = { '<i2': Int16Array, '<f4': Float32Array };
  return new kinds[dtype](bytes.slice().buffer); // the copy starts at 0, where a typed array may start
}

function parse(bytes) {
  return JSON.parse(new TextDecoder().decode(bytes));
}

if (globalThis.process?.argv?.[1]?.endsWith('check.mjs')) {
  const { readFile } = await import('node:fs/promises');
  const [folder, precision = 'fp32'] = process.argv.slice(2);
  const seen = await check((name) => readFile(`${folder}/${name}`), precision);
  const times = `ready in ${Math.round(seen.readyMs)} ms, ${Math.round(seen.tileMs)} ms a tile`;
  console.log(`onnx/${precision}: logits differ by ${seen.rms.toExponential(1)} (root mean square), allowed ${seen.allowedRms}`);
  console.log(`${seen.agreement.toFixed(5)} of the labels agree; ${times}: ${seen.passed ? 'passed' : 'failed'}`);
  process.exitCode = seen.passed ? 0 : 1;
}
