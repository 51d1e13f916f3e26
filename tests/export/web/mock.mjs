// A stand-in for autosam-edge.mjs without Python and network: the same functions, a synthetic result of balls.
// For tests of the page only; no exported site holds it. A file named error.* fails, gap.* fails until `allow_gap`,
// series.* holds two series.

/** @type {{label: number, name: string, title: string, color: [number, number, number], hu: number, at: number[], radius: number}[]} */
const ORGANS = [
  { label: 1, name: 'spleen', title: 'Spleen', color: [157, 108, 162], hu: 110, at: [24, 36, 46], radius: 8 },
  { label: 2, name: 'kidney_right', title: 'Right kidney', color: [185, 102, 83], hu: 150, at: [18, 40, 18], radius: 7 },
  { label: 3, name: 'kidney_left', title: 'Left kidney', color: [185, 102, 83], hu: 150, at: [18, 40, 44], radius: 7 },
  { label: 6, name: 'liver', title: 'Liver', color: [221, 130, 101], hu: 100, at: [28, 26, 18], radius: 13 },
];
const ABSENT = { label: 4, name: 'gallbladder', title: 'Gallbladder', color: [139, 150, 98] };
const SHAPE = [48, 64, 64];
const SPACING = [5, 5, 5];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class AutosamEdgeError extends Error {
  constructor(code, message, remedy, exitCode) {
    super(message);
    Object.assign(this, { code, remedy, exitCode, name: 'AutosamEdgeError' });
  }
}

function nifti(Type, datatype) {
  const count = SHAPE[0] * SHAPE[1] * SHAPE[2];
  const buffer = new ArrayBuffer(352 + count * Type.BYTES_PER_ELEMENT);
  const header = new DataView(buffer);
  header.setInt32(0, 348, true);
  [3, SHAPE[2], SHAPE[1], SHAPE[0], 1, 1, 1, 1].forEach((n, i) => header.setInt16(40 + 2 * i, n, true));
  header.setInt16(70, datatype, true);
  header.setInt16(72, 8 * Type.BYTES_PER_ELEMENT, true);
  [1, SPACING[2], SPACING[1], SPACING[0]].forEach((mm, i) => header.setFloat32(76 + 4 * i, mm, true));
  header.setFloat32(108, 352, true);
  header.setFloat32(112, 1, true);
  header.setUint8(123, 2); // mm
  header.setInt16(254, 1, true); // sform
  [[-5, 0, 0, 160], [0, -5, 0, 160], [0, 0, 5, -120]].forEach((row, i) =>
    row.forEach((value, j) => header.setFloat32(280 + 16 * i + 4 * j, value, true)));
  new Uint8Array(buffer).set([0x6e, 0x2b, 0x31, 0], 344);
  return { buffer, values: new Type(buffer, 352) };
}

function synthetic() {
  const image = nifti(Int16Array, 4);
  const labels = nifti(Uint8Array, 2);
  let i = 0;
  for (let d = 0; d < SHAPE[0]; d++)
    for (let h = 0; h < SHAPE[1]; h++)
      for (let w = 0; w < SHAPE[2]; w++, i++) {
        const inside = ORGANS.find((o) => Math.hypot(d - o.at[0], h - o.at[1], w - o.at[2]) < o.radius);
        labels.values[i] = inside?.label ?? 0;
        image.values[i] = inside?.hu ?? (Math.hypot((h - 32) / 24, (w - 32) / 30) < 1 ? 20 : -1000);
      }
  return { image, labels };
}

const scan = synthetic(); // before any run: a real worker does such work in another thread

export async function open({ onProgress, provider = 'auto' } = {}) {
  const stages = ['python', 'packages', 'model', 'verify'];
  for (const [index, stage] of stages.entries()) {
    onProgress?.({ stage, done: 0, total: 1, fraction: index / 4, seconds_left: 4 - index });
    await pause(150);
  }
  const refused = provider === 'webgpu' ? [{ provider: 'webgpu', code: 'AE-ENGINE-007',
    message: 'webgpu does not give the results of the export: logits differ by 6.4e+00 rms, allowed 0.001.' }] : [];
  return {
    about: {
      software: 'autosam-edge 0.0.0', model: 'mock', model_version: '0', license: 'none', provider: 'wasm', providers: ['wasm', 'webgpu'],
      threads: 1,
      research_use: 'Research use only. Not a medical device; not for diagnosis or treatment.',
      precision: 'fp32', model_sha256: '0'.repeat(64), refused, start_ms: { python: 150, packages: 150, model: 150, verify: 150 },
      labels: [...ORGANS, ABSENT].map(({ label, name, title, color }) => ({ label, name, title, color })),
    },
    verify: async () => [{ name: 'files', verdict: 'passed', detail: '9 hashes are correct', figures: {} }],
    demo: async () => new File(['mock'], 'demo.nii.gz'),
    timeTiles: async (count) => { await pause(20 * count); return Array.from({ length: count }, (_, i) => 20 + i % 5); },
    memory: async () => ({ python_mb: 400, network_mb: 160 }),
    listSeries: async (files) => [...files].some((file) => file.name.startsWith('series'))
      ? [{ id: '1', number: '2', slices: 160, spacing_mm: 2.5, derived: false, preferred: true, reason: '' },
        { id: '2', number: '3', slices: 2, spacing_mm: 0, derived: true, preferred: false, reason: 'It has only 2 slices.' }]
      : [],
    segment, close() {},
  };
}

async function segment(files, { onProgress, signal, options } = {}) {
  if ([...files].some((file) => file.name.startsWith('error')))
    throw new AutosamEdgeError('AE-DICOM-002', 'the input holds no CT image, only 3 x MR image.', 'Give a CT series.', 3);
  if (!options?.allow_gap && [...files].some((file) => file.name.startsWith('gap')))
    throw new AutosamEdgeError('AE-DICOM-016', '3 slices are missing between slice 40 and 41: 10 mm apart, expected 2.5 mm.',
      'Copy the series again, whole; or let `allow_gap` fill the gap by interpolation.', 3);
  const steps = [['read', 1], ['network', 8], ['measure', 1], ['write', 1], ['view', 1]];
  let passed = 0;
  for (const [stage, total] of steps)
    for (let done = 0; done < total; done++, passed++) {
      onProgress?.({ stage, done, total, fraction: passed / 12, seconds_left: passed < 2 ? null : (12 - passed) * 0.3 });
      await pause(300);
      if (signal?.aborted) throw new AutosamEdgeError('AE-CANCEL-001', 'the run was cancelled.', 'Start it again.', 130);
    }
  const { image, labels } = scan;
  const found = ORGANS.map(({ label, name, title, color, hu, at, radius }) => ({
    label, name, title, color, voxels: 1000, volume_ml: radius ** 3 * 0.5236, mean_hu: hu, sd_hu: 12.5, touches_border: label === 1,
    expected_dice: 0.9, center_ras_mm: [160 - 5 * at[2], 160 - 5 * at[1], 5 * at[0] - 120], center_zyx: at }));
  return {
    labels: labels.values.slice(), shape: SHAPE, spacing_mm: SPACING,
    affine_lps_mm: [[0, 0, 5, -160], [0, 5, 0, -160], [5, 0, 0, -120], [0, 0, 0, 1]],
    view: { image: image.buffer.slice(), labels: labels.buffer.slice(), labels_3d: labels.buffer.slice(), reduced: false,
      shape: SHAPE, spacing_mm: SPACING, first: 0, steps: [SHAPE[1] * SHAPE[2], SHAPE[2], 1] },
    organs: [...found, { ...ABSENT, voxels: 0, volume_ml: 0, mean_hu: null, sd_hu: null, touches_border: false,
      expected_dice: null, center_ras_mm: null, center_zyx: null }],
    warnings: [
      { code: 'AE-WARN-041', severity: 'doubtful', message: 'The spleen is cut off by the edge of the scan.', organ: 'spleen' },
      { code: 'AE-WARN-007', severity: 'info', message: 'Passed over: 1 x file that is not DICOM.', organ: null }],
    verdict: 'doubtful', timings_s: { read: 0.3, network: 2.4, measure: 0.3, write: 0.3, view: 0.3 },
    files: Object.fromEntries(['segmentation.nii.gz', 'segmentation.dcm', 'statistics.json', 'statistics.csv']
      .map((name) => [name, new Blob([`mock ${name}`.padEnd(136e3)])])),
  };
}
