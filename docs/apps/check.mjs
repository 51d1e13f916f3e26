// Does ONNX Runtime Web compute here what the bundle's model computed when it was exported?
//
//   npm install onnxruntime-web          1.23 or newer
//   node check.mjs model.edge [fp32]
//
// A browser imports the same functions and differs in one thing, how the bytes of a file are had:
//
//   await check(async (name) => new Uint8Array(await (await fetch(`model.edge/${name}`)).arrayBuffer()), 'fp32')

import * as ort from 'onnxruntime-web';

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The manifest, and a reader that returns only bytes whose SHA-256 is the manifest's. */
export async function openBundle(fetchBytes) {
  const manifest = parse(await fetchBytes('manifest.json'));
  if (manifest.schema_version !== 1) throw new Error(`schema_version is ${manifest.schema_version}, this program reads 1`);
  const read = async (name) => {
    const bytes = await fetchBytes(name);
    // A browser has crypto.subtle only on https and localhost.
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    if (hex !== manifest.files[name]) throw new Error(`${name} was altered or damaged`);
    return bytes;
  };
  return { manifest, read };
}

/** Makes the session. The thread count holds for the page: it must be set before the first session. */
export async function loadModel(bundle, precision, threads) {
  const artifact = bundle.manifest.artifacts.find((entry) => entry.target === 'onnx' && entry.precision === precision);
  if (!artifact) throw new Error(`the bundle holds no onnx/${precision}`);
  ort.env.wasm.numThreads = threads;
  return ort.InferenceSession.create(await bundle.read(artifact.path), {
    executionProviders: ['wasm'],
    enableMemPattern: false, // a planned arena would be allocated beside the first
    logSeverityLevel: 3,
  });
}

/** One tile: Float32Array of D x H x W in HU -> Float32Array of C x D x H x W logits. */
export async function runTile(session, hu, [depth, height, width]) {
  const input = new ort.Tensor('float32', hu, [1, 1, depth, height, width]);
  const { logits } = await session.run({ image_hu: input });
  return logits.data; // a copy outside of the wasm memory: keep one at a time
}

/** Golden tile against this runtime: root mean square difference, label agreement, times. */
export async function check(fetchBytes, precision = 'fp32', threads = defaultThreads()) {
  const bundle = await openBundle(fetchBytes);
  const { tile } = parse(await bundle.read('golden/golden.json'));
  const hu = Float32Array.from(toArray(await bundle.read(tile.hu.file), tile.hu.dtype));
  const expected = toArray(await bundle.read(tile.logits.file), tile.logits.dtype);
  const parity = parse(await bundle.read('parity.json')).find((entry) => entry.target === 'onnx' && entry.precision === precision);

  const started = performance.now();
  const session = await loadModel(bundle, precision, threads);
  const loaded = performance.now();
  await runTile(session, hu, tile.hu.shape); // the first run also allocates
  const warm = performance.now();
  const logits = await runTile(session, hu, tile.hu.shape);
  const done = performance.now();
  await session.release(); // returns its part of the wasm memory to the page, which never shrinks

  const { rms, agreement } = compare(logits, tile.hu.shape, expected, tile.logits.shape, tile.stride);
  const allowed = parity.tolerance.logit_rms;
  return { passed: rms <= allowed, rms, allowed, agreement, loadMs: loaded - started, tileMs: done - warm };
}

/** `found` is (C, D, H, W), `expected` every `stride`-th voxel of it. */
function compare(found, [depth, height, width], expected, [classes, d, h, w], stride) {
  let squares = 0;
  let same = 0;
  for (let z = 0; z < d; z++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const best = { found: -Infinity, expected: -Infinity };
        const label = { found: -1, expected: -1 };
        for (let c = 0; c < classes; c++) {
          const a = found[((c * depth + z * stride) * height + y * stride) * width + x * stride];
          const b = expected[((c * d + z) * h + y) * w + x];
          squares += (a - b) ** 2;
          if (a > best.found) [best.found, label.found] = [a, c];
          if (b > best.expected) [best.expected, label.expected] = [b, c];
        }
        same += label.found === label.expected;
      }
    }
  }
  return { rms: Math.sqrt(squares / expected.length), agreement: same / (d * h * w) };
}

/** Raw little-endian bytes as numbers. The copy starts at offset 0, as a typed array's alignment needs. */
function toArray(bytes, dtype) {
  const kind = { '<i2': Int16Array, '<f4': Float32Array }[dtype];
  if (!kind || !HOST_IS_LITTLE_ENDIAN) throw new Error(`cannot read ${dtype} here`);
  return new kind(bytes.slice().buffer);
}

function parse(bytes) {
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** A page without cross-origin isolation has no threads; asking for more than one would fail there. */
function defaultThreads() {
  const cores = globalThis.navigator?.hardwareConcurrency ?? 4;
  return globalThis.crossOriginIsolated === false ? 1 : Math.min(4, cores);
}

if (globalThis.process?.argv[1] && import.meta.url === new URL(`file://${process.argv[1]}`).href) {
  const { readFile, realpath } = await import('node:fs/promises');
  const [folder, precision = 'fp32', threads] = process.argv.slice(2);
  const read = async (name) => new Uint8Array(await readFile(`${folder}/${name}`));
  const result = await check(read, precision, threads ? Number(threads) : defaultThreads());
  console.log(result);
}
