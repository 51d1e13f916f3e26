// Drives the page, built with the mock, in headless Chromium; prints what it saw as JSON.
//   node drive_page.mjs URL FOLDER_OF_SCREENSHOTS CHROMIUM [WIDTH ...]
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { longestTask, record } from './trace.mjs';

const [url, shots, executablePath, ...widths] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), 'package.json')); // node_modules stand in the working folder
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const HEIGHTS = { 360: 780, 390: 844, 820: 1180, 1280: 800 };
const SMALLEST_TARGET = 44; // px

const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'],
});
const file = (name) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from('mock') });

/** Waits until animations rest, then keeps what can be seen, and looks for faults. */
async function look(page, seen, name) {
  const began = await page.evaluate(() => performance.now());
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(shots, `${name}.png`) });
  if (name.includes('result')) await page.screenshot({ path: join(shots, `${name}-whole.png`), fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  seen.axe.push(
    ...violations
      .filter((v) => ['serious', 'critical'].includes(v.impact))
      .map((v) => `${name}: ${v.id}: ${v.nodes.map((n) => n.html).join(' | ')}`),
  );
  seen.small.push(
    ...(await page.evaluate(
      ([smallest, where]) =>
        [...document.querySelectorAll('button, a[href], summary, label:has(input), input:not([type=file])')]
          .filter((node) => node.checkVisibility())
          .filter((node) => !node.matches('.skip') && !node.closest('label, .skip')?.contains(node.parentElement))
          .map((node) => [node, node.getBoundingClientRect()])
          .filter(([, box]) => Math.min(box.width, box.height) < smallest - 0.5 && box.width > 1)
          .map(
            ([node, box]) =>
              `${where}: ${node.outerHTML.slice(0, 60)} ${Math.round(box.width)}x${Math.round(box.height)}`,
          ),
      [SMALLEST_TARGET, name],
    )),
  );
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (beyond > 0) seen.wide.push(`${name}: ${beyond} px`);
  seen.wide.push(
    ...(await page.evaluate(() =>
      [...document.querySelectorAll('button, .button')]
        .filter((node) => node.scrollWidth > node.clientWidth)
        .map((node) => `the text of ${node.outerHTML.slice(0, 60)}`),
    )),
  );
  const researchUse = await page.evaluate(() => {
    // a dialog covers the header, so that it has its own
    const box = document
      .querySelector(document.querySelector('dialog[open]') ? 'dialog .research' : '.bar .research')
      .getBoundingClientRect();
    return box.top >= 0 && box.bottom <= innerHeight && box.height > 0;
  });
  if (!researchUse) seen.hidden.push(name);
  return [began, await page.evaluate(() => performance.now())];
}

async function drive(width, colorScheme) {
  const seen = {
    width,
    colorScheme,
    axe: [],
    small: [],
    wide: [],
    hidden: [],
    errors: [],
    foreign: [],
    blocked_ms: [],
    texts: {},
  };
  const context = await browser.newContext({
    viewport: { width, height: HEIGHTS[width] },
    hasTouch: width < 1000,
    isMobile: width < 1000,
    colorScheme,
    acceptDownloads: true,
  });
  await context.addInitScript(() => {
    globalThis.longTasks = [];
    new PerformanceObserver((list) =>
      globalThis.longTasks.push(...list.getEntries().map((entry) => [entry.startTime, entry.duration])),
    ).observe({ type: 'longtask', buffered: true });
    addEventListener('securitypolicyviolation', (event) =>
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  // At one width the software GPU passes for a real one, so that 3D is offered.
  const draws3d = width === 1280 && colorScheme === 'dark';
  if (draws3d)
    await context.addInitScript(() => {
      const ask = WebGL2RenderingContext.prototype.getParameter;
      WebGL2RenderingContext.prototype.getParameter = function (name) {
        return name === 0x9246 ? 'a GPU' : ask.call(this, name);
      };
    });
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && seen.errors.push(message.text()));
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on(
    'request',
    (request) =>
      !request.url().startsWith(new URL(url).origin) &&
      !request.url().startsWith('blob:') &&
      !request.url().startsWith('data:') &&
      seen.foreign.push(request.url()),
  );
  const name = (state) => `${width}${colorScheme === 'light' ? '-light' : ''}-${state}`;
  const text = (id) => page.locator(id).innerText();
  const choose = (file_) => page.setInputFiles('#files', file_);

  await page.goto(url);
  await page.waitForFunction(() => document.getElementById('ready').classList.contains('done'), null, {
    timeout: 60000,
  });
  await look(page, seen, name('start'));
  seen.texts.ready = await text('#ready-text');
  seen.isolated = await page.evaluate(() => crossOriginIsolated);

  await page.click('#device-button');
  await page.click('#check-all');
  await page.waitForSelector('#checks b');
  await look(page, seen, name('device'));
  await page.keyboard.press('Escape');

  await choose([file('series-1'), file('series-2')]);
  await page.waitForSelector('#choice:not([hidden])');
  await look(page, seen, name('choice'));
  await page.click('#choice [data-restart]');

  await choose(file('error.dcm'));
  await page.waitForSelector('#failure:not([hidden])');
  await look(page, seen, name('error'));
  seen.texts.failure = await text('#failure');
  await page.click('#failure [data-restart]');

  await choose(file('scan.nii.gz'));
  await page.waitForSelector('#cancel');
  await page.waitForTimeout(500);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter'); // the first control of the view is Cancel
  await page.waitForSelector('#start:not([hidden])');
  seen.texts.cancelled = await text('#announce');

  await choose(file('gap.dcm'));
  await page.waitForSelector('#failure:not([hidden])');
  seen.texts.gap = await text('#failure');
  await page.click('#retry');
  const began = await page.evaluate(() => performance.now());
  await page.waitForFunction(() => document.querySelector('#stages .now .part')?.textContent.startsWith('3'));
  const [lookedFrom, lookedTo] = await look(page, seen, name('progress'));
  await page.waitForSelector('#result:not([hidden])', { timeout: 60000 });
  await page.waitForFunction(() => document.getElementById('place').textContent.includes('HU'));
  await page.waitForTimeout(500); // the first frames of the slices
  seen.blocked_ms = (await page.evaluate(() => globalThis.longTasks))
    .filter(([at]) => at > began && (at < lookedFrom || at > lookedTo))
    .map(([, ms]) => ms);
  await look(page, seen, name('result'));
  seen.texts.place = await text('#place');
  await page.click('#organs li:first-child .go');
  seen.texts.spleen = await text('#place');
  seen.texts.focus = await page.evaluate(() => document.activeElement.className);
  if (width < 1000) {
    await page.locator('#canvas').scrollIntoViewIfNeeded();
    const box = await page.locator('#canvas').boundingBox();
    const device = await context.newCDPSession(page); // a finger rests for longer than the tap of playwright
    await device.send('Input.dispatchTouchEvent', {
      type: 'touchStart',
      touchPoints: [{ x: box.x + 6, y: box.y + box.height / 2 }],
    });
    await page.waitForTimeout(80);
    await device.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
    await page.waitForFunction(
      (before) => document.getElementById('place').textContent !== before,
      seen.texts.spleen,
    );
    seen.texts.tapped = await text('#place');
    await page.click('#organs li:first-child .go');
  }
  await page.locator('#canvas').focus();
  for (let i = 0; i < 12; i++) await page.keyboard.press('PageUp');
  seen.texts.above = await text('#place');
  if (draws3d) {
    await page.click('#planes label:last-of-type');
    await page.waitForFunction(() => document.getElementById('viewer-problem').hidden, null, { timeout: 60000 });
    await look(page, seen, name('3d'));
    seen.texts['3d'] = await text('#planes');
    await page.click('#planes label:first-of-type');
  }
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#downloads a')]);
  seen.texts.download = download.suggestedFilename();
  seen.texts.address = page.url();
  seen.texts.title = await page.title();
  await page.click('#result [data-restart]'); // a second scan in the same page
  await record(browser, page);
  await page.click('#demo');
  await page.waitForSelector('#result:not([hidden])', { timeout: 60000 });
  await page.waitForFunction((before) => document.getElementById('place').textContent !== before, seen.texts.above, {
    timeout: 180000,
  });
  seen.texts.second = await text('#place');
  seen.busy_ms = (await longestTask(browser)).thread_ms;

  await page.goto(new URL('bench.html', url).href);
  await look(page, seen, name('bench-start'));
  await page.click('#go');
  await page.waitForSelector('#save:not([hidden])', { timeout: 120000 });
  await look(page, seen, name('bench'));
  const [saved] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
  seen.bench = JSON.parse(readFileSync(await saved.path()));
  await context.close();
  return seen;
}

const runs = [];
for (const width of widths) {
  const [pixels, scheme] = width.split('-');
  runs.push(await drive(Number(pixels), scheme ?? 'dark'));
}
console.log(JSON.stringify(runs));
await browser.close();
