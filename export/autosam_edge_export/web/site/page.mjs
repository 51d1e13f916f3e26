// The page: start the program, take files, let the worker label them, show the result. Python decides; this shows.

import { open } from './autosam-edge.mjs';
import { askToKeep, setUpDevice, showDeviceState, wantedProvider } from './device.mjs';
import { byId, element } from './elements.mjs';
import { listenForFiles } from './files.mjs';
import { offline, storeSite } from './stored_site.mjs';
import { RunView } from './progress.mjs';
import { forgetResult, showResult } from './result.mjs';
import { DECISIONS, STAGES, decisionIn, inWords, percent, providerName, seconds, timeLeft } from './words.mjs';

const TITLES = {
  start: 'autosam-edge: organs of an abdominal CT, on this device',
  choice: 'Which series? autosam-edge',
  run: 'Labeling the organs, autosam-edge',
  failure: 'Not labeled, autosam-edge',
  result: 'Result, autosam-edge',
};
const CANCELLED = 'AE-CANCEL-001';
const runView = new RunView();
let edge = null; // the started library
let starting = null; // promise of it
let running = null; // AbortController of the run
let shown = 'start';

function show(view) {
  for (const id of Object.keys(TITLES)) byId(id).hidden = id !== view;
  shown = view;
  document.title = TITLES[view];
  scrollTo(0, 0);
  byId(`${view}-title`).focus({ preventScroll: true });
}

/* Start of the program */

function showStart({ stage, fraction, seconds_left }) {
  byId('ready-bar').value = fraction;
  byId('ready-text').textContent =
    `Getting ready: ${STAGES[stage] ?? stage}. ${seconds_left === null ? '' : timeLeft(seconds_left)}`;
}

async function startProgram() {
  await storeSite(
    () => {
      showDeviceState();
      if (offline.state !== 'storing') return;
      byId('ready-bar').value = offline.stored;
      // In steps of ten, for screen readers.
      const stored = percent(Math.floor(10 * offline.stored) / 10);
      byId('ready-text').textContent = `First visit: storing the program on this device, ${stored}`;
    },
    () => shown === 'start',
  );
  showDeviceState();
  if (offline.state === 'ready') askToKeep();
  edge = await open({ provider: wantedProvider(), onProgress: showStart });
  for (const place of document.querySelectorAll('.research')) place.textContent = edge.about.research_use;
  byId('ready').classList.add('done');
  const refused = edge.about.refused.map((entry) => ` Not used: ${entry.provider} (${entry.code}).`);
  const proof = `the test tile gave the right result in ${seconds((edge.about.start_ms.verify ?? 0) / 1000)}`;
  byId('ready-text').textContent = [`Ready. Runs on ${providerName(edge.about)}; ${proof}.`, ...refused].join('');
  return edge;
}

/* A run */

/** The promise, or a rejection as soon as the person cancels. */
function unless(signal, promise) {
  return new Promise((done, failed) => {
    signal.addEventListener('abort', () => failed(Object.assign(new Error('cancelled'), { code: CANCELLED })));
    promise.then(done, failed);
  });
}

/**
 * A run and what it needs around it; errors and cancelling lead to their views.
 * `order`: what is to be labeled: files, series, decisions. `work(signal)` does it.
 */
async function run(order, work) {
  const control = (running = new AbortController());
  const lock = await navigator.wakeLock?.request('screen').catch(() => null);
  addEventListener('beforeunload', askBeforeLeaving);
  forgetResult(); // the memory is needed
  runView.begin(!edge);
  show('run');
  try {
    await unless(control.signal, starting);
    await work(control.signal);
  } catch (error) {
    if (error.code === CANCELLED) {
      show('start');
      byId('announce').textContent = 'Cancelled. Nothing was kept.';
    } else showFailure(error, order);
  } finally {
    running = null;
    runView.end();
    removeEventListener('beforeunload', askBeforeLeaving);
    lock?.release();
  }
}

const askBeforeLeaving = (event) => event.preventDefault();

/** Look at the files; ask when they hold several series, else go on. */
function begin(files) {
  const order = { files, series: undefined, decisions: { pseudonymize: byId('pseudonymize').checked } };
  run(order, async (signal) => {
    runView.enter('look');
    const series = await unless(signal, edge.listSeries(files));
    if (series.length > 1) askForSeries(order, series);
    else await label(order, signal);
  });
}

async function label(order, signal) {
  const { files, series, decisions } = order;
  const began = performance.now();
  const result = await edge.segment(files, {
    series,
    signal,
    options: decisions,
    onProgress: (progress) => runView.show(progress),
  });
  show('result');
  showResult(result, edge.about, decisions, (performance.now() - began) / 1000);
}

function askForSeries(order, series) {
  const preferred = Math.max(
    0,
    series.findIndex((entry) => entry.preferred),
  );
  const rows = series.map((entry, index) => seriesRow(entry, index === preferred));
  // Some scanners write every slice as a series of its own.
  if (series.length > 2 && series.every((entry) => entry.slices === 1))
    rows.unshift(
      seriesRow(
        {
          id: 'all',
          number: '',
          slices: series.length,
          spacing_mm: 0,
          reason: 'The images of all series as one scan.',
        },
        false,
      ),
    );
  byId('series-list').replaceChildren(...rows);
  byId('choice-form').onsubmit = (event) => {
    event.preventDefault();
    const chosen = { ...order, series: new FormData(event.target).get('series') };
    run(chosen, (signal) => label(chosen, signal));
  };
  show('choice');
}

function seriesRow({ id, number, slices, spacing_mm, derived, preferred, reason }, checked) {
  const name = id === 'all' ? 'All series together' : number ? `Series ${number}` : 'Series without a number';
  const facts = [`${slices} slices`, spacing_mm ? `${spacing_mm} mm apart` : '', derived ? 'derived images' : '']
    .filter(Boolean)
    .join(', ');
  return element(
    'label',
    {},
    element('input', { type: 'radio', name: 'series', value: id, checked, required: true }),
    element(
      'span',
      {},
      element('strong', {}, name),
      preferred ? element('span', { className: 'tag' }, 'Best suited') : null,
    ),
    element('small', {}, facts, reason ? `. ${inWords(reason)}` : ''),
  );
}

/* Errors */

function showFailure(error, order) {
  byId('failure-code').textContent = error.code ?? 'Unexpected error';
  byId('failure-restart').textContent = edge ? 'Choose another scan' : 'Load the page again';
  byId('failure-title').textContent = edge ? 'This scan was not labeled' : 'The program could not start';
  byId('failure-message').textContent = inWords(error.message);
  byId('failure-remedy').textContent = inWords(
    error.remedy ?? 'Load the page again. If it happens again, report this sentence.',
  );
  const decision = decisionIn(error.remedy ?? '');
  const offered = decision !== null && !order.decisions[decision];
  byId('retry').hidden = !offered;
  if (offered) {
    byId('retry').textContent = DECISIONS[decision];
    const again = { ...order, decisions: { ...order.decisions, [decision]: true } };
    byId('retry').onclick = () => run(again, (signal) => label(again, signal));
  }
  show('failure');
}

/* Wiring */

listenForFiles(begin, () => !running);
setUpDevice(() => edge);
for (const button of document.querySelectorAll('[data-restart]'))
  button.addEventListener('click', () => (edge ? show('start') : location.reload())); // it failed to start
byId('cancel').addEventListener('click', () => running?.abort());
byId('demo').addEventListener('click', () => {
  const order = { files: [], series: undefined, decisions: {} };
  run(order, async (signal) => {
    order.files = [await unless(signal, edge.demo())];
    await label(order, signal);
  });
});
for (const event of ['online', 'offline']) addEventListener(event, () => showDeviceState());
const bar = document.querySelector('.bar');
new ResizeObserver(() => document.documentElement.style.setProperty('--bar', `${bar.offsetHeight}px`)).observe(bar);

starting = startProgram();
starting.catch((error) => {
  showDeviceState('failed');
  byId('ready').classList.add('done');
  if (!running) showFailure(error, {});
});
