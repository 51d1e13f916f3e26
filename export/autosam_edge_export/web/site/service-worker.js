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
const LIST = new URL('site.json', ROOT);
const PACKED = 'X-Packed'; // marks what is kept compressed; WebAssembly shrinks to a third

self.addEventListener('install', (event) => event.waitUntil(fill().then(() => self.skipWaiting())));
self.addEventListener('activate', (event) => event.waitUntil(tidy().then(() => self.clients.claim())));

async function fill() {
  const list = await fetch(LIST, { cache: 'no-store' });
  const site = await list.clone().json();
  if (site.version !== VERSION) throw new Error('the site is being replaced; try again later');
  const cache = await caches.open(CACHE);
  const files = Object.entries(site.files).filter(([, file]) => !file.on_demand);
  const total_bytes = files.reduce((sum, [, { size }]) => sum + size, 0);
  let stored_bytes = 0;
  const tell = async () => {
    for (const page of await self.clients.matchAll({ includeUncontrolled: true }))
      page.postMessage({ type: 'storing', stored_bytes, total_bytes });
  };
  await tell();
  for (const [path, file] of files) {
    await keep(cache, path, file);
    stored_bytes += file.size;
    await tell();
  }
  await cache.put(LIST, list);
}

async function keep(cache, path, file) {
  const url = new URL(path, ROOT);
  if (await cache.match(url)) return;
  // A file that did not change since the last version is not loaded again.
  for (const find of [async () => unpacked(await caches.match(url)), () => fetch(url, { cache: 'no-store' })]) {
    const response = await find();
    if (response?.ok && (await put(cache, url, response, file))) return;
  }
  throw new Error(`${path} differs from the list of files`);
}

/** Keep a file if its hash is right; returns whether it is. */
async function put(cache, url, response, { sha256 }) {
  const bytes = await response.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  if (Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('') !== sha256) return false;
  const headers = { 'Content-Type': response.headers.get('Content-Type') ?? '' };
  const pack = url.pathname.endsWith('.wasm');
  const body = pack ? new Response(bytes).body.pipeThrough(new CompressionStream('gzip')) : bytes;
  await cache.put(url, new Response(body, { headers: pack ? { ...headers, [PACKED]: 'gzip' } : headers }));
  return true;
}

function unpacked(response) {
  if (!response?.headers.has(PACKED)) return response;
  return new Response(response.body.pipeThrough(new DecompressionStream('gzip')), { headers: response.headers });
}

async function tidy() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith('autosam-edge ') && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method === 'GET' && request.url.startsWith(ROOT.href)) event.respondWith(respond(request));
});

async function respond(request) {
  const url = new URL(request.url);
  url.search = '';
  if (url.pathname.endsWith('/')) url.pathname += 'index.html';
  const cache = await caches.open(CACHE);
  let response = unpacked(await cache.match(url));
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
  const list = await cache.match(LIST);
  const file = list && (await list.json()).files[url.href.slice(ROOT.href.length)];
  if (file?.on_demand) await put(cache, url, response, file);
}
