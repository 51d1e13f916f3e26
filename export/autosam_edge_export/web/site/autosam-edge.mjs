// Organ segmentation of a CT scan in the browser: the page's side of the web worker. Types: autosam-edge.d.mts.
// Research use only. Not a medical device; not for diagnosis or treatment.

export class AutosamEdgeError extends Error {
  constructor({ code, message, remedy, exitCode }) {
    super(message);
    Object.assign(this, { name: 'AutosamEdgeError', code, remedy, exitCode });
  }
}

const CANCELLED = {
  code: 'AE-CANCEL-001', exitCode: 130, remedy: 'Start it again.',
  message: 'stopped on request; no unfinished result was left.',
};
const WORKER_ENDED = {
  code: 'AE-INTERNAL-001', exitCode: 1, message: 'the worker ended unexpectedly, perhaps because memory ran out.',
  remedy: 'Close other tabs and programs, and open the page again.',
};

/** @param {import('./autosam-edge.mjs').OpenOptions} [options] */
export async function open({ base = new URL('.', import.meta.url), threads, provider = 'auto', onProgress } = {}) {
  const folder = new URL(base, globalThis.location?.href).href;
  threads ??= isAppleTablet() ? 1 : undefined;
  const worker = new Worker(new URL('worker.mjs', folder), { type: 'module' });
  const waiting = new Map();
  let count = 0;

  const fail = (error) => {
    for (const { reject } of waiting.values()) reject(new AutosamEdgeError(error));
    waiting.clear();
  };
  worker.onerror = (event) => {
    event.preventDefault();
    fail(WORKER_ENDED);
  };
  worker.onmessage = ({ data: { id, value, error, progress } }) => {
    const call = waiting.get(id);
    if (!call) return;
    if (progress) return call.onProgress?.(progress);
    waiting.delete(id);
    if (error) call.reject(new AutosamEdgeError(error));
    else call.resolve(value);
  };

  /** Call a method of the worker; an aborted call rejects at once, and the worker stops after its step. */
  function call(method, argument, { onProgress, signal } = {}) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new AutosamEdgeError(CANCELLED));
      const id = ++count;
      waiting.set(id, { resolve, reject, onProgress });
      signal?.addEventListener('abort', () => {
        if (!waiting.delete(id)) return;
        worker.postMessage({ cancel: id });
        reject(new AutosamEdgeError(CANCELLED));
      }, { once: true });
      worker.postMessage({ id, method, argument });
    });
  }

  try {
    const about = await call('open', { base: folder, threads, provider }, { onProgress });
    return {
      about,
      verify: () => call('verify'),
      listSeries: (files) => call('listSeries', { files: [...files] }),
      memory: () => call('memory'),
      timeTiles: (count) => call('timeTiles', { count }),
      demo: async () => new File([await call('demo')], 'demo.nii', { type: 'application/octet-stream' }),
      async segment(files, { series, viewVoxels, options = {}, ...rest } = {}) {
        const request = { ...options, series, view_voxels: viewVoxels }; // what is undefined is left out of the JSON
        return asResult(await call('segment', { files: [...files], request }, rest));
      },
      close() {
        worker.terminate();
        fail(CANCELLED);
      },
    };
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

/** iPhone or iPad: shared memory that grows has crashed there, so that several threads run only where asked for. */
const isAppleTablet = () => /iP(hone|ad|od)/.test(navigator.userAgent) || (/Mac/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);

/** The worker's answer with the files as blobs. */
function asResult({ files, ...result }) {
  const kinds = { gz: 'application/gzip', dcm: 'application/dicom', json: 'application/json', csv: 'text/csv' };
  const blobs = Object.entries(files).map(([name, bytes]) =>
    [name, new Blob([bytes], { type: kinds[name.split('.').pop()] ?? 'application/octet-stream' })]);
  return { ...result, files: Object.fromEntries(blobs) };
}
