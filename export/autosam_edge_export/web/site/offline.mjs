// Use without a network: registers the service worker, and tells how much room the browser gives.

/**
 * Keep the site for use without a network, and isolate the page so that the network can use several threads.
 * @param {{reload?: boolean}} [options] reload: load the page again once if only that isolates it.
 * @returns {Promise<{kept: boolean, isolated: boolean, persisted: boolean, used_mb: number, quota_mb: number}>}
 */
export async function keepOffline({ reload = true } = {}) {
  const state = { kept: false, isolated: self.crossOriginIsolated === true, persisted: false, used_mb: 0, quota_mb: 0 };
  if (!navigator.serviceWorker) return state; // not over https, or a private window
  await navigator.serviceWorker.register(new URL('service-worker.js', import.meta.url));
  await navigator.serviceWorker.ready;
  state.kept = true;
  const mark = 'autosam-edge reloaded';
  if (!state.isolated && reload && !sessionStorage.getItem(mark)) {
    sessionStorage.setItem(mark, '1');
    location.reload();
    return new Promise(() => {}); // the page ends here
  }
  state.persisted = (await navigator.storage?.persist?.()) ?? false;
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return { ...state, used_mb: Math.round(usage / 1e6), quota_mb: Math.round(quota / 1e6) };
}
