// Drives a site in headless Chromium for test_browser.py: node browser.mjs '{"site": ..., "scan": ..., ...}'
// prints one JSON object. Needs playwright-core in NODE_MODULES and Debian's chromium.
import { createReadStream, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { longestTask, record } from './trace.mjs';

const { chromium } = createRequire(path.join(process.env.NODE_MODULES, 'x.js'))('playwright-core');
const asked = JSON.parse(process.argv[2]);
const TYPES = { '.html': 'text/html', '.mjs': 'text/javascript', '.js': 'text/javascript', '.css': 'text/css',
  '.wasm': 'application/wasm', '.json': 'application/json', '.png': 'image/png', '.svg': 'image/svg+xml', '.webmanifest': 'application/manifest+json' };
const ISOLATION = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

function serve(folder, headers) {
  const server = http.createServer((request, response) => {
    const file = path.join(folder, decodeURIComponent(request.url.split('?')[0]));
    if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': TYPES[path.extname(file)] ?? 'application/octet-stream', ...headers });
    createReadStream(file).pipe(response);
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(server)));
}

const server = await serve(path.resolve(asked.site), asked.isolated ? ISOLATION : {});
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', ...(asked.flags ?? [])] });
const page = await browser.newPage();
const told = { console: [], failed: [], foreign: [] };
page.on('console', (message) => told.console.push(message.text().slice(0, 500)));
page.on('requestfailed', (request) => told.failed.push(request.url()));
page.on('request', (request) => {
  if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(origin)) told.foreign.push(request.url());
});

/** Any file of the site is a page to run the module in; this one is there on every site. */
const visit = () => page.goto(`${origin}/site.json`);

async function job() {
  await visit();
  await page.evaluate(async (options) => {
    const { open } = await import('/autosam-edge.mjs');
    const started = performance.now();
    window.longest_task_ms = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) window.longest_task_ms = Math.max(window.longest_task_ms, duration);
    }).observe({ entryTypes: ['longtask'] }); // tells of tasks of 50 ms and more
    const failure = ({ code, message, remedy, exitCode }) => ({ code, message, remedy, exitCode });
    try {
      window.edge = await open(options);
      window.start = { isolated: crossOriginIsolated, start_s: (performance.now() - started) / 1000, about: edge.about };
    } catch (error) {
      window.start = { error: failure(error) };
    }
    window.failure = failure;
    const input = document.createElement('input');
    Object.assign(input, { type: 'file', multiple: true, id: 'pick' });
    document.documentElement.append(input);
  }, asked.open ?? {});
  const found = { start: await page.evaluate('start') };
  if (found.start.error) return found;
  if (asked.verify) found.checks = await page.evaluate(() => edge.verify().catch(failure));
  for (const scan of asked.scans ?? []) (found.scans ??= []).push(await segment(scan));
  if (asked.page) {
    await page.evaluate('edge.close()'); // two workers would need twice the memory
    found.page = await inPage(asked.page);
  }
  return found;
}

async function segment({ folder, options, out, cancel_at }) {
  await page.setInputFiles('#pick', filesOf(folder));
  const found = await page.evaluate(async ({ options, cancel_at }) => {
    const files = document.querySelector('#pick').files;
    const progress = [];
    const controller = new AbortController();
    const started = performance.now();
    window.longest_task_ms = 0;
    try {
      const series = await edge.listSeries(files).catch(failure);
      const listed_s = (performance.now() - started) / 1000;
      const result = await edge.segment(files, { ...options, signal: controller.signal, onProgress: (step) => {
        progress.push([step.stage, step.done, step.total, step.fraction, step.seconds_left]);
        if (step.stage === cancel_at) controller.abort();
      } });
      window.result = result;
      const { labels, view, files: results, ...rest } = result;
      const seconds = (performance.now() - started) / 1000;
      const digest = async (bytes) => Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)),
        (byte) => byte.toString(16).padStart(2, '0')).join('');
      return { ...rest, seconds, listed_s, series, progress, longest_task_ms, memory: await edge.memory(),
        labels_sha256: await digest(labels), image_sha256: await digest(view.image), view_bytes: [view.image.byteLength, view.labels.byteLength],
        files: Object.fromEntries(await Promise.all(Object.entries(results).map(async ([name, blob]) =>
          [name, { size: blob.size, sha256: await digest(await blob.arrayBuffer()) }]))) };
    } catch (error) {
      return { error: failure(error), progress };
    }
  }, { options, cancel_at });
  if (out && !found.error) {
    for (const name of Object.keys(found.files)) await save(out, name);
  }
  return found;
}

/** The page itself: what a person sees of each folder, and the longest task of the page's own thread. */
async function inPage(folders) {
  await page.goto(`${origin}/index.html`);
  await page.waitForSelector('#ready.done', { timeout: 240000 });
  const seen = [];
  for (const folder of folders) {
    const started = Date.now();
    await record(browser, page);
    if (folder === 'demo') await page.click('#demo');
    else await page.setInputFiles('#files', filesOf(folder));
    await page.waitForSelector('#result:not([hidden]), #failure:not([hidden])', { timeout: 400000 });
    const seconds = (Date.now() - started) / 1000;
    await page.waitForTimeout(1500); // the slices are drawn
    const text = await page.innerText('#result:not([hidden]), #failure:not([hidden])');
    seen.push({ seconds, text, longest_task: await longestTask(browser) });
    if (asked.shots) await page.screenshot({ path: path.join(asked.shots, `${seen.length}.png`) });
    await page.click('[data-restart]:visible');
  }
  return seen;
}

const filesOf = (folder) => statSync(folder).isFile() ? [folder] : readdirSync(folder).map((name) => path.join(folder, name));

/** Write a blob of the page to a file of this machine. */
async function save(folder, name) {
  const text = await page.evaluate(async (key) => {
    const bytes = new Uint8Array(await window.result.files[key].arrayBuffer());
    let binary = '';
    for (let i = 0; i < bytes.length; i += 32768) binary += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(binary);
  }, name);
  writeFileSync(path.join(folder, name), Buffer.from(text, 'base64'));
}

/** First visit: keep the site. Then the server ends, and the job runs from what was kept. */
async function offline() {
  await visit();
  const first = await page.evaluate('crossOriginIsolated');
  const kept = await page.evaluate(async () => {
    await navigator.serviceWorker.register('/service-worker.js');
    return Boolean(await navigator.serviceWorker.ready);
  });
  await page.reload();
  const isolated = await page.evaluate('crossOriginIsolated');
  const cache_mb = await page.evaluate(async () => (await navigator.storage.estimate()).usage / 1e6);
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  told.failed.length = 0;
  return { first_visit_isolated: first, kept, isolated, cache_mb, ...(await job()) };
}

try {
  const found = await (asked.offline ? offline() : job());
  console.log(JSON.stringify({ ...found, ...told, browser: browser.version() }));
} finally {
  await browser.close();
  server.close();
}
