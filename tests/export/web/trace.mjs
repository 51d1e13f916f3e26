// How long the page's own thread was busy without a pause.

/** Start to record; call `longestTask` at the end. */
export const record = (browser, page) =>
  browser.startTracing(page, { categories: ['toplevel', 'disabled-by-default-devtools.timeline'] });

/** The longest task, ms: by the clock, and in the thread's own time, which other programs do not stretch. */
export async function longestTask(browser) {
  const events = JSON.parse((await browser.stopTracing()).toString()).traceEvents;
  const main = events
    .filter((event) => event.name === 'thread_name' && event.args.name === 'CrRendererMain')
    .map(({ pid, tid }) => `${pid} ${tid}`);
  const tasks = events.filter(
    ({ name, pid, tid, tdur }) => name.endsWith('RunTask') && tdur !== undefined && main.includes(`${pid} ${tid}`),
  );
  if (tasks.length < 20) throw new Error('the trace holds no tasks');
  const longest = (key) => tasks.reduce((most, task) => Math.max(most, task[key]), 0) / 1000;
  return { clock_ms: Math.round(longest('dur')), thread_ms: Math.round(longest('tdur')) };
}
