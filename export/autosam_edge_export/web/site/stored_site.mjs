// The service worker: it stores the site's files on the first visit, so that the page works without a network, and
// adds the headers that let the network of the model use several threads.

/** How it stands: `state` is unsupported, storing, ready or failed; `stored` is a share while storing. */
export const offline = { state: 'unsupported', stored: 0, newer: false };

/**
 * Register the service worker and wait until it has stored the site; the page may start its work afterwards.
 * Where the page is not yet cross-origin isolated and `mayReload()`, it is then loaded once more.
 */
export async function storeSite(onChange, mayReload) {
  if (!('serviceWorker' in navigator)) return;
  const workers = navigator.serviceWorker;
  const change = (values) => onChange(Object.assign(offline, values));
  const wasControlled = workers.controller !== null;
  workers.addEventListener('controllerchange', () => {
    if (wasControlled) change({ newer: true });
  });
  workers.addEventListener('message', ({ data }) => {
    if (data?.type === 'storing' && offline.state === 'storing')
      change({ stored: data.total_bytes ? data.stored_bytes / data.total_bytes : 0 });
  });
  try {
    const registration = await workers.register('service-worker.js');
    if (!registration.active) {
      change({ state: 'storing' });
      await untilActive(registration);
    }
  } catch {
    change({ state: 'failed' }); // private windows and full disks: the page works, with the network
    return;
  }
  change({ state: 'ready' });
  // Once only: a host may send headers of its own that forbid isolation.
  if (!crossOriginIsolated && !sessionStorage.getItem('reloaded') && mayReload()) {
    sessionStorage.setItem('reloaded', 'yes');
    location.reload();
    await new Promise(() => {}); // nothing more is started on a page that goes away
  }
}

function untilActive(registration) {
  const worker = registration.installing ?? registration.waiting;
  return new Promise((done, failed) => {
    const look = () => {
      if (worker.state === 'activated') done();
      if (worker.state === 'redundant') failed(new Error('the site could not be stored'));
    };
    worker.addEventListener('statechange', look);
    look();
  });
}
