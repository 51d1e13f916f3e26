// Measures this device: start, the golden tile many times, the whole demonstration scan, memory. Null: not known.

import { open } from './autosam-edge.mjs';
import { wantedProvider } from './device.mjs';
import { byId, element } from './elements.mjs';
import { STAGES, inWords, providerName, seconds, sentence } from './words.mjs';

const TILES = 20;
const MB = 1e6;

byId('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  byId('form').hidden = true;
  byId('progress').hidden = false;
  try {
    show(await measure(byId('name').value.trim() || null));
  } catch (error) {
    byId('state').textContent =
      `${error.code ?? 'Unexpected error'}: ${inWords(error.message)} ${inWords(error.remedy ?? '')}`;
  }
});

/** The measurement as the object that is saved. */
export async function measure(name) {
  const began = performance.now();
  // The start is a tenth of the work on the bar, the tiles three tenths, the scan the rest.
  const edge = await open({
    provider: wantedProvider(),
    onProgress: ({ stage, fraction }) => tell(`Start: ${STAGES[stage] ?? stage}`, 0.1 * fraction),
  });
  const load_ms = performance.now() - began;
  tell(`One tile, ${TILES} times`, 0.1);
  const samples = await edge.timeTiles(TILES);
  const scan = await edge.demo();
  const from = performance.now();
  const result = await edge.segment([scan], {
    onProgress: ({ stage, fraction }) =>
      tell(`Demonstration scan: ${STAGES[stage] ?? stage}`, 0.4 + 0.6 * fraction),
  });
  const total_s = (performance.now() - from) / 1000;
  const { about } = edge;
  // A row of the schema in docs/bench.md.
  const report = {
    format: 'autosam-edge bench',
    schema_version: 1,
    measured_with: 'browser',
    date: new Date().toISOString().slice(0, 10),
    device: await device(name),
    artifact: artifact(about),
    placement: placement(about),
    load: {
      first_s: load_ms / 1000,
      cold_process_s: null,
      warm_s: null,
      stages_s: inSeconds(about.start_ms),
    },
    tile_latency: latency(samples),
    end_to_end: [
      {
        scan: 'phantom',
        shape: result.shape,
        spacing_mm: result.spacing_mm,
        repeated: false,
        total_s,
        samples_s: [total_s],
        stages_s: result.timings_s,
        peak_mb: null,
      },
    ],
    sustained: null,
    memory: await memory(edge),
    energy: { joules_per_tile: null, joules_per_scan: null, method: 'a browser does not tell it' },
    install: { packages_mb: null, bundle_mb: null },
    accuracy: {
      mean_dice: null,
      data: null,
      cases: null,
      against_student: null,
      worst_organ: null,
      worst_organ_dice: null,
    },
    roofline: null,
    validity: { noisy: false, stable: null, reasons: ['A browser does not tell what other programs do.'] },
  };
  edge.close();
  return report;
}

function tell(text, share) {
  byId('bar').value = share;
  if (byId('state').textContent !== text) byId('state').textContent = text;
}

async function device(name) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return {
    name,
    processor: null,
    cores: navigator.hardwareConcurrency ?? null,
    memory_gb: navigator.deviceMemory ?? null,
    gpu: adapter?.info
      ? [adapter.info.vendor, adapter.info.architecture, adapter.info.description].filter(Boolean).join(' ')
      : null,
    system: navigator.userAgentData?.platform ?? null,
    os_build: null,
    browser: navigator.userAgent,
    cross_origin_isolated: crossOriginIsolated,
    power_source: null,
    battery_percent: null,
    governor: null,
    thermal_state: null,
    temperature_c: null,
    temperature_end_c: null,
    load_average: null,
    others_cores_before: null,
    others_cores_during: null,
    affinity: null,
    versions: {},
  };
}

const artifact = ({ software, model, model_version, precision, model_sha256 }) => ({
  software,
  model,
  model_version,
  model_sha256: null,
  sha256: model_sha256,
  form: 'onnx',
  precision,
  proof: null,
  tile: null,
  megabytes: null,
});

const placement = ({ provider, threads, refused }) => ({
  engine: 'onnxruntime-web',
  engine_version: null,
  provider_asked: wantedProvider() ?? null,
  provider,
  threads: threads ?? null,
  operators: null,
  fallbacks: refused.map((entry) => `${entry.provider}: ${entry.code}`),
});

const inSeconds = (milliseconds) =>
  Object.fromEntries(Object.entries(milliseconds).map(([name, ms]) => [name, ms / 1000]));

/** One sample more than counted warms up; 20 samples are too few for a p90. */
function latency(samples) {
  const mean = samples.reduce((sum, each) => sum + each, 0) / samples.length;
  const sd = Math.sqrt(samples.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (samples.length - 1));
  const p50 = median(samples);
  return {
    unit: 'ms',
    warm_ups: 1,
    samples,
    repeat_p50: [p50],
    n: samples.length,
    min: Math.min(...samples),
    p50,
    p90: null,
    mean,
    sd,
  };
}

/** The heaps of the worker; the whole tab, where the browser tells; that may take 20 s and more. */
async function memory(edge) {
  const { python_mb, network_mb } = await edge.memory();
  tell('Memory of the page', 1);
  const whole =
    crossOriginIsolated && performance.measureUserAgentSpecificMemory
      ? await performance.measureUserAgentSpecificMemory().catch(() => null)
      : null;
  return {
    peak_mb: { python: python_mb, network: network_mb, page: whole && whole.bytes / MB },
    method: `sizes of the WebAssembly heaps after the scan${whole ? '; page: measureUserAgentSpecificMemory' : ''}`,
  };
}

function median(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
}

function show(report) {
  const {
    load,
    tile_latency,
    end_to_end: [scan],
    memory: { peak_mb: used },
    placement: place,
  } = report;
  const rows = [
    ['Runs on', sentence(providerName(place))],
    ['Start', seconds(load.first_s)],
    ['One tile, median', `${Math.round(tile_latency.p50)} ms`],
    ['One tile, slowest', `${Math.round(Math.max(...tile_latency.samples))} ms`],
    ['Demonstration scan, whole', seconds(scan.total_s)],
    ['Memory of Python', `${Math.round(used.python)} MB`],
    ['Memory of the network', `${Math.round(used.network)} MB`],
    ['Memory of the page', used.page === null ? 'not known' : `${Math.round(used.page)} MB`],
  ];
  byId('figures').tBodies[0].replaceChildren(
    ...rows.map(([name, figure]) =>
      element('tr', {}, element('th', { scope: 'row' }, name), element('td', {}, figure)),
    ),
  );
  byId('figures').hidden = false;
  byId('progress').hidden = true;
  const json = new Blob([JSON.stringify(report, null, 1)], { type: 'application/json' });
  byId('download').href = URL.createObjectURL(json);
  byId('save').hidden = false;
  byId('title').textContent = 'Measured';
}
