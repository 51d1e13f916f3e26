// Words and figures of the page in one place.

/** What a person reads for each stage of `Progress`. */
export const STAGES = {
  python: 'Python',
  packages: 'packages',
  model: 'model',
  verify: 'test of the model',
  read: 'Read the scan',
  network: 'Find the organs',
  measure: 'Measure the organs',
  write: 'Write the files',
  view: 'Prepare the view',
};

/** Decisions of `SegmentOptions.options` that the remedy of an error may offer, as the button says them. */
export const DECISIONS = {
  allow_gap: 'Fill the gap',
  assume_hu: 'Take the values as HU',
  ignore_frame_of_reference: 'Treat it as one volume',
  accept_implausible: 'Show the labels anyway',
};

const PARAMETERS = { series: 'the choice of a series' };
const IN_BACKTICKS = /`(\w+)(?:=[^`]*)?`/g;

/** A message of the library with words of the page in the place of the parameters that it names in backticks. */
export const inWords = (text) =>
  sentence(
    text.replace(IN_BACKTICKS, (whole, name) =>
      name in DECISIONS ? `“${DECISIONS[name]}”` : (PARAMETERS[name] ?? name),
    ),
  );

/** The first decision that a remedy names; null: none. */
export const decisionIn = (remedy) =>
  [...remedy.matchAll(IN_BACKTICKS)].map((found) => found[1]).find((name) => name in DECISIONS) ?? null;

/** With a capital at the start. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const percent = (share) => `${Math.round(100 * share)} %`;

export function seconds(value) {
  if (value < 1.5) return value < 0.95 ? `${Math.max(0.1, value).toFixed(1)} s` : '1 s';
  return value < 90 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

export function timeLeft(value) {
  if (value === null) return 'Estimating the time';
  if (value < 2) return 'A moment left';
  if (value < 90) return `About ${Math.ceil(value)} seconds left`;
  return `About ${Math.ceil(value / 60)} minutes left`;
}

export function bytes(count) {
  if (count < 1e3) return `${count} B`;
  if (count < 1e6) return `${Math.round(count / 1e3)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

/** Milliliters with the digits that mean something. toLocaleString would load tables of languages, 100 ms. */
export const milliliters = (ml) => `${ml < 10 ? ml.toFixed(1) : String(Math.round(ml)).replace(/\B(?=(\d{3})+$)/g, ',')} ml`;

/** Hounsfield units with a true minus sign. */
export const hounsfield = (hu) => String(Math.round(hu)).replace('-', '\u2212');

export function providerName({ provider, threads }) {
  if (provider === 'webgpu') return 'the GPU (WebGPU)';
  return threads === 1 ? 'the processor, 1 thread' : `the processor, ${threads} threads`;
}
