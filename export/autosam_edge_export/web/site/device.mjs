// "About this device": what runs the model and how it was proven, what is stored, what the memory is.

import { byId, element } from './elements.mjs';
import { offline } from './stored_site.mjs';
import { bytes, inWords, percent, providerName, seconds, sentence } from './words.mjs';

const PROVIDER = 'provider'; // key of localStorage

/** What a person chose to run the model on; the golden tile decides whether it is used. */
export const wantedProvider = () => localStorage.getItem(PROVIDER) ?? 'auto';

/** The short state in the header. */
export function showDeviceState(engineState) {
  const isOffline = !navigator.onLine;
  const ready = offline.state === 'ready';
  const words = {
    storing: `Storing, ${percent(offline.stored)}`,
    ready: isOffline ? 'Offline, ready' : 'Works offline',
    failed: isOffline ? 'No network' : 'Needs the network',
    unsupported: isOffline ? 'No network' : 'Needs the network',
  }[offline.state];
  byId('device-state').textContent = engineState === 'failed' ? 'Not ready' : words;
  byId('device-dot').classList.toggle('on', ready && engineState !== 'failed');
}

/** Wire the sheet. `edge()` is the started library, or null. */
export function setUpDevice(edge) {
  const sheet = byId('device');
  byId('device-button').addEventListener('click', () => {
    byId('checks').replaceChildren();
    sheet.showModal();
    showFacts(edge());
  });
  sheet.addEventListener('click', (event) => {
    // on the backdrop
    if (event.target === sheet) sheet.close();
  });
  byId('check-all').addEventListener('click', () => checkAll(edge()));
  byId('provider').addEventListener('click', () => {
    if (wantedProvider() === 'webgpu') localStorage.removeItem(PROVIDER);
    else localStorage.setItem(PROVIDER, 'webgpu');
    location.reload();
  });
  byId('persist').addEventListener('click', async () => {
    await navigator.storage.persist();
    await showFacts(edge());
  });
}

/** Ask the browser not to delete the stored site; most decide without a question to the person. */
export async function askToKeep() {
  if (navigator.storage?.persist && !(await navigator.storage.persisted())) await navigator.storage.persist();
}

async function showFacts(edge) {
  const kept = (await navigator.storage?.persisted?.()) ?? null;
  const memory = edge ? await edge.memory() : null;
  const facts = [
    ...(edge ? engineFacts(edge.about) : [['Model', 'Not started yet']]),
    [
      'Without a network',
      offlineWords(),
      offline.newer ? 'A newer version is stored. Load the page again to use it.' : '',
    ],
    await storageFact(kept),
    [
      'Memory',
      memory ? `${Math.round(memory.python_mb + memory.network_mb)} MB in use` : 'Not known',
      memory
        ? `${Math.round(memory.python_mb)} MB for Python, ${Math.round(memory.network_mb)} MB for the network`
        : '',
    ],
  ];
  byId('device-facts').replaceChildren(
    ...facts.map(([term, fact, more]) =>
      element('div', {}, element('dt', {}, term), element('dd', {}, fact, more ? element('small', {}, more) : null)),
    ),
  );
  byId('persist').hidden = kept !== false;
  byId('check-all').disabled = !edge;
  byId('provider').hidden = !navigator.gpu || !edge?.about.providers.includes('webgpu');
  byId('provider').textContent = wantedProvider() === 'webgpu' ? 'Use the processor' : 'Try the GPU';
}

function engineFacts(about) {
  const proof = about.start_ms.verify;
  const refused = about.refused.map((entry) => [
    'Not used',
    entry.provider,
    `${entry.code}: ${inWords(entry.message)}`,
  ]);
  return [
    [
      'Runs on',
      sentence(providerName(about)),
      `Proven on this device: the test tile gave the right result${proof ? `, in ${seconds(proof / 1000)}` : ''}.`,
    ],
    ...refused,
    ...(crossOriginIsolated
      ? []
      : [['Threads', 'Only one', 'This host or this browser does not allow more; the labels are the same.']]),
    ['Model', `${about.model} ${about.model_version}, ${about.precision}`, about.license],
    ['Software', about.software, ''],
  ];
}

function offlineWords() {
  return {
    ready: 'Everything is stored; this page works offline',
    storing: `Storing the program, ${percent(offline.stored)}`,
    failed: 'Could not be stored; the network is needed',
    unsupported: 'This browser stores no site here; the network is needed',
  }[offline.state];
}

async function storageFact(kept) {
  const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
  const words = quota ? `${bytes(usage)} of ${bytes(quota)}` : 'Not known';
  const kind = {
    true: 'The browser keeps it until you delete it.',
    false: 'The browser may delete it when space is short or after days without a visit.',
  };
  return ['Storage', words, kind[kept] ?? ''];
}

async function checkAll(edge) {
  const list = byId('checks');
  const words = { passed: '✓ Passed', failed: '✕ Failed', skipped: '– Skipped' };
  byId('check-all').disabled = true;
  list.replaceChildren(element('li', {}, 'Checking'));
  try {
    const checks = await edge.verify();
    list.replaceChildren(
      ...checks.map((check) =>
        element('li', {}, element('b', {}, `${words[check.verdict]}: ${check.name}. `), inWords(check.detail)),
      ),
    );
  } catch (error) {
    list.replaceChildren(
      element(
        'li',
        {},
        element('b', {}, `✕ ${error.code ?? 'Failed'}. `),
        inWords(error.message),
        ' ',
        inWords(error.remedy ?? ''),
      ),
    );
  }
  byId('check-all').disabled = false;
}
