// The view of a result: verdict, warnings, organs, files, and the controls of the viewer.

import { byId, element, segments } from './elements.mjs';
import { gpuDraws } from './model_3d.mjs';
import { WINDOWS } from './slices.mjs';
import { Viewer } from './viewer.mjs';
import { bytes, hounsfield, inWords, milliliters, percent, seconds } from './words.mjs';

const VERDICTS = {
  plausible: ['✓', 'Plausible', 'Nothing speaks against the labels. Look at them all the same.'],
  doubtful: ['!', 'Doubtful', 'Something speaks against the labels. A person must look at them.'],
  implausible: [
    '✕',
    'Implausible',
    'These cannot be the labels of an abdomen. They are shown because you asked for them.',
  ],
};
const UNCHECKED = ['?', 'Not checked', 'This model has no check of plausibility. A person must look at the labels.'];
const SEVERITIES = { doubtful: 'Doubtful', caution: 'Caution', info: 'Note' };
const FILES = {
  'segmentation.dcm': 'DICOM SEG',
  'segmentation.nii.gz': 'NIfTI',
  'statistics.json': 'JSON',
  'statistics.csv': 'CSV',
};
const NAMES = { all: 'All', axial: 'Axial', coronal: 'Coronal', sagittal: 'Sagittal', '3d': '3D' };

let viewer = null;
globalThis.requestIdleCallback?.(() => gpuDraws()); // not when a result is shown: it takes a while
let urls = [];

/** Fill the view. */
export function showResult(result, about, decisions, took_s) {
  showVerdict(result);
  showOrgans(result, about);
  showDownloads(result);
  byId('result-time').textContent =
    `${about.software}, model ${about.model} ${about.model_version}, done in ${seconds(took_s)}.`;
  byId('view-note').textContent = result.view.reduced
    ? 'Shown with fewer voxels than the scan has; the files and the volumes are exact.'
    : '';
  if (decisions.pseudonymize && result.files['segmentation.dcm'])
    byId('downloads-note').textContent = 'DICOM SEG holds a pseudonym in place of the patient.';
  showPicture(result, about);
}

/** Free what a result holds. */
export function forgetResult() {
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  viewer?.clear();
}

function showVerdict({ verdict, warnings }) {
  const [mark, word, text] = VERDICTS[verdict] ?? UNCHECKED;
  byId('verdict').className = `verdict ${verdict ?? ''}`;
  byId('verdict-mark').textContent = mark;
  byId('verdict-word').textContent = word;
  byId('verdict-text').textContent = text;
  // A warning on one organ stands at the organ; here stands what concerns the scan or the verdict.
  const shown = warnings.filter((warning) => warning.organ === null || warning.severity === 'doubtful');
  const notes = shown.filter((warning) => warning.severity === 'info');
  byId('warnings').replaceChildren(...shown.filter((warning) => !notes.includes(warning)).map(warningItem));
  byId('notes').hidden = !notes.length;
  byId('notes').open = false;
  byId('notes-count').textContent = notes.length === 1 ? '1 note on the scan' : `${notes.length} notes on the scan`;
  byId('notes-list').replaceChildren(...notes.map(warningItem));
}

const warningItem = ({ code, severity, message }) =>
  element(
    'li',
    { className: severity },
    element('span', { className: 'head' }, element('b', {}, SEVERITIES[severity]), code),
    inWords(message),
  );

function showOrgans({ organs, warnings }) {
  const found = organs.filter((organ) => organ.voxels > 0);
  const absent = organs.filter((organ) => organ.voxels === 0);
  byId('organs-title').textContent = `${found.length} of ${organs.length} organs found`;
  byId('organs').replaceChildren(
    ...found.map((organ) =>
      organRow(
        organ,
        warnings.filter((w) => w.organ === organ.name),
      ),
    ),
  );
  byId('absent').textContent = absent.length
    ? `Not found: ${absent.map((organ) => organ.title.toLowerCase()).join(', ')}.`
    : '';
  byId('expected-dice-note').textContent = found.some((organ) => organ.expected_dice !== null)
    ? 'Expected Dice: how well the labels probably agree with those of a person. 1 is the same, 0 is not at all.'
    : '';
}

function organRow(organ, warnings) {
  const see = element('input', { type: 'checkbox', checked: true, ariaLabel: `Show ${organ.title.toLowerCase()}` });
  see.style.color = `rgb(${organ.color})`;
  see.addEventListener('change', () => viewer?.setVisible(organ, see.checked));
  const text = (className, words) => element('span', { className }, words);
  const density = organ.mean_hu === null ? '' : `${hounsfield(organ.mean_hu)} ± ${Math.round(organ.sd_hu)} HU`;
  const expected = organ.expected_dice === null ? '' : `expected Dice ${organ.expected_dice.toFixed(2)}`;
  const notes = warnings.map((warning) => `${SEVERITIES[warning.severity]}: ${inWords(warning.message)}`);
  if (organ.touches_border && !notes.length) notes.push('Reaches the edge of the scan: the whole organ is larger.');
  const go = element(
    'button',
    { type: 'button', className: 'go' },
    text('title', organ.title),
    text('volume', `${organ.touches_border ? '≥ ' : ''}${milliliters(organ.volume_ml)}`),
    element('span', { className: 'more' }, element('span', {}, density), element('span', {}, expected)),
    ...notes.map((note) => text('note', note)),
  );
  go.addEventListener('click', () => {
    viewer?.goTo(organ.center_zyx);
    byId('announce').textContent = `The crosshair is in the ${organ.title.toLowerCase()}.`;
    byId('picture').scrollIntoView({ block: 'nearest' });
  });
  const row = element('li', {}, element('label', { className: 'see' }, see), go);
  row.dataset.label = organ.label;
  return row;
}

function showDownloads({ files }) {
  byId('downloads').replaceChildren(
    ...Object.entries(files).map(([name, blob]) => {
      const url = URL.createObjectURL(blob);
      urls.push(url);
      return element(
        'li',
        {},
        element(
          'a',
          { className: 'button', href: url, download: name },
          FILES[name] ?? name,
          element('small', {}, bytes(blob.size)),
        ),
      );
    }),
  );
  byId('downloads-note').textContent = files['segmentation.dcm']
    ? 'DICOM SEG holds the name and ID of the patient, as the scan does.'
    : 'There is no DICOM SEG, because the scan was not given as DICOM.';
}

function showPicture(result, about) {
  viewer ??= new Viewer(byId('canvas'), byId('canvas-3d'));
  viewer.onPlace = (place) => showPlace(place, about);
  const planes = Object.keys(NAMES).filter((plane) => plane !== '3d' || gpuDraws());
  const first = matchMedia('(min-width: 700px)').matches ? 'all' : 'axial';
  segments(
    byId('planes'),
    'plane',
    planes.map((plane) => [plane, NAMES[plane]]),
    first,
    setPlane,
  );
  segments(
    byId('windows'),
    'window',
    Object.keys(WINDOWS).map((name) => [name, name[0].toUpperCase() + name.slice(1)]),
    'soft tissue',
    (name) => viewer.setWindow(name),
  );
  // Spoken while keys move the crosshair; a finger would flood the screen reader.
  byId('canvas').onfocus = () => byId('place').setAttribute('aria-live', 'polite');
  byId('canvas').onblur = () => byId('place').setAttribute('aria-live', 'off');
  byId('slice').oninput = ({ target }) => {
    viewer.slice = target.value - 1;
  };
  byId('opacity').oninput = ({ target }) => setOpacity(Number(target.value));
  setOpacity(Number(byId('opacity').value));
  viewer.setWindow('soft tissue');
  viewer.show(result, about.labels);
  setPlane(first);
  const largest = result.organs.reduce((a, b) => (b.volume_ml > a.volume_ml ? b : a));
  if (largest.center_zyx) viewer.goTo(largest.center_zyx);
}

async function setPlane(plane) {
  const problem = byId('viewer-problem');
  problem.hidden = plane !== '3d';
  problem.textContent = 'Preparing 3D';
  byId('slice-label').hidden = plane === 'all' || plane === '3d';
  try {
    await viewer.setPlane(plane);
    problem.hidden = true;
  } catch (error) {
    console.error(error); // most likely the memory of the GPU
    problem.textContent = 'This device cannot draw the organs in 3D. The slices, measurements and files are complete.';
  }
}

function setOpacity(value) {
  byId('opacity-text').textContent = percent(value / 100);
  viewer.setOpacity(value / 100);
}

function showPlace({ label, hu }, about) {
  const organ = about.labels.find((entry) => entry.label === label);
  byId('place').replaceChildren(
    'Crosshair: ',
    element('b', {}, organ?.title ?? 'no organ'),
    element('span', {}, `, ${hounsfield(hu)} HU`),
  );
  for (const row of byId('organs').children) row.classList.toggle('here', row.dataset.label === String(label));
  const slice = viewer.slice;
  if (!slice) return;
  byId('slice').max = slice.count;
  byId('slice').value = slice.index + 1;
  byId('slice-text').textContent = `${slice.index + 1} of ${slice.count}`;
}
