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
    onProgress: ({ stage, fraction }) => tell(`Demonstration scan: ${STAGES[stage] ?? stage}`, 0.4 + 0.6 * fraction),
  });
  const total_s = (performance.now() - from) / 1000;
  const report = {
    format: 'autosam-edge bench',
    measured_with: 'browser',
    device: await device(name),
    artifact: artifact(edge.about),
    placement: placement(edge.about),
    load: { total_ms: load_ms, stages_ms: edge.about.start_ms },
    tile_latency: { unit: 'ms', samples, p50: quantile(samples, 0.5), p90: quantile(samples, 0.9) },
    end_to_end: {
      scan: 'demo',
      shape: result.shape,
      spacing_mm: result.spacing_mm,
      total_s,
      stages_s: result.timings_s,
    },
    memory: await memory(edge),
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
    user_agent: navigator.userAgent,
    platform: navigator.userAgentData?.platform ?? null,
    cores: navigator.hardwareConcurrency ?? null,
    memory_gb_at_most: navigator.deviceMemory ?? null,
    gpu: adapter?.info
      ? [adapter.info.vendor, adapter.info.architecture, adapter.info.description].filter(Boolean).join(' ')
      : null,
    cross_origin_isolated: crossOriginIsolated,
  };
}

const artifact = ({ software, model, model_version, precision, model_sha256 }) => ({
  software,
  model,
  model_version,
  precision,
  sha256: model_sha256,
});

const placement = ({ provider, threads, refused }) => ({ engine: 'onnxruntime-web', provider, threads, refused });

/** The heaps of the worker; the whole tab, where the browser tells; that may take 20 s and more. */
async function memory(edge) {
  const { python_mb, network_mb } = await edge.memory();
  tell('Memory of the page', 1);
  const whole =
    crossOriginIsolated && performance.measureUserAgentSpecificMemory
      ? await performance.measureUserAgentSpecificMemory().catch(() => null)
      : null;
  return {
    python_mb,
    network_mb,
    page_mb: whole && whole.bytes / MB,
    method: `sizes of the WebAssembly heaps after the scan${whole ? '; page: measureUserAgentSpecificMemory' : ''}`,
  };
}

/** Linear between the two nearest samples, as NumPy's default. */
export function quantile(samples, share) {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)];
  return low + (at % 1) * (sorted[Math.ceil(at)] - low);
}

function show(report) {
  const { load, tile_latency, end_to_end, memory: used, placement: place } = report;
  const rows = [
    ['Runs on', sentence(providerName(place))],
    ['Start', seconds(load.total_ms / 1000)],
    ['One tile, median', `${Math.round(tile_latency.p50)} ms`],
    ['One tile, 9 of 10 are faster', `${Math.round(tile_latency.p90)} ms`],
    ['Demonstration scan, whole', seconds(end_to_end.total_s)],
    ['Memory of Python', `${Math.round(used.python_mb)} MB`],
    ['Memory of the network', `${Math.round(used.network_mb)} MB`],
    ['Memory of the page', used.page_mb === null ? 'not known' : `${Math.round(used.page_mb)} MB`],
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
