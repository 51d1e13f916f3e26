// Keeps every file of the site for use without a network, each compared with its SHA-256, and adds the headers
// that threads need on hosts that cannot set them. The export puts the version of the site here.
const VERSION = '@VERSION@';
const CACHE = `autosam-edge ${VERSION}`;
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
};
const ROOT = new URL('.', self.location.href);

self.addEventListener('install', (event) => event.waitUntil(fill().then(() => self.skipWaiting())));
self.addEventListener('activate', (event) => event.waitUntil(tidy().then(() => self.clients.claim())));

async function fill() {
  const list = await fetch(new URL('site.json', ROOT), { cache: 'no-store' });
  const site = await list.clone().json();
  if (site.version !== VERSION) throw new Error('the site is being replaced; try again later');
  const cache = await caches.open(CACHE);
  const files = Object.entries(site.files).filter(([, file]) => !file.on_demand);
  await Promise.all(files.map(([path, file]) => keep(cache, path, file)));
  await cache.put(new URL('site.json', ROOT), list);
}

async function keep(cache, path, { sha256 }) {
  const url = new URL(path, ROOT);
  if (await cache.match(url)) return;
  // A file that did not change since the last version is not loaded again.
  for (const find of [() => caches.match(url), () => fetch(url, { cache: 'no-store' })]) {
    const response = await find();
    if (!response?.ok) continue;
    const bytes = await response.arrayBuffer();
    const headers = { 'Content-Type': response.headers.get('Content-Type') ?? '' };
    if ((await digest(bytes)) === sha256) return cache.put(url, new Response(bytes, { headers }));
  }
  throw new Error(`${path} differs from the list of files`);
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function tidy() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith('autosam-edge ') && name !== CACHE).map((name) => caches.delete(name)));
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method === 'GET' && request.url.startsWith(ROOT.href)) event.respondWith(respond(request));
});

async function respond(request) {
  const url = new URL(request.url);
  if (url.pathname.endsWith('/')) url.pathname += 'index.html';
  const cache = await caches.open(CACHE);
  let response = await cache.match(url, { ignoreSearch: true });
  if (!response) {
    response = await fetch(request);
    if (response.ok) await keepOnDemand(cache, url, response.clone());
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

/** A file that is not needed by everybody, such as those for WebGPU, is kept when it was used. */
async function keepOnDemand(cache, url, response) {
  const list = await cache.match(new URL('site.json', ROOT));
  const file = list && (await list.json()).files[url.href.slice(ROOT.href.length).split('?')[0]];
  if (!file?.on_demand) return;
  const bytes = await response.clone().arrayBuffer();
  if ((await digest(bytes)) === file.sha256) await cache.put(url.href.split('?')[0], response);
}
