// A stand-in for service-worker.js: tells of storing, adds the headers of isolation, stores nothing.
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function store() {
  for (const stored_bytes of [0, 10e6, 20e6, 30e6]) {
    for (const page of await self.clients.matchAll({ includeUncontrolled: true }))
      page.postMessage({ type: 'storing', stored_bytes, total_bytes: 30e6 });
    await pause(100);
  }
  await self.skipWaiting();
}

self.addEventListener('install', (event) => event.waitUntil(store()));
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) =>
  event.respondWith(
    (async () => {
      const answer = await fetch(event.request);
      const headers = new Headers(answer.headers);
      headers.set('Cross-Origin-Opener-Policy', 'same-origin');
      headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
      return new Response(answer.body, { status: answer.status, headers });
    })(),
  ),
);
