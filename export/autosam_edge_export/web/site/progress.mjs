// The view of a run: stages, bar, time left; spoken seldom, so that a screen reader is not flooded.

import { byId, element } from './elements.mjs';
import { STAGES, percent, timeLeft } from './words.mjs';

const FIRST = { start: 'Start the program', look: 'Look at the files' };
const SPEAK_EVERY_S = 15;

/** Draws `Progress` and counts the time left down between two messages. */
export class RunView {
  #stage = '';
  #left = null;
  #leftAt = 0;
  #spokenAt = 0;
  #clock = 0;

  begin(withStart) {
    const stages = [...(withStart ? ['start'] : []), 'look', 'read', 'network', 'measure', 'write', 'view'];
    byId('stages').replaceChildren(
      ...stages.map((stage) => {
        const item = element(
          'li',
          {},
          element('span', {}, FIRST[stage] ?? STAGES[stage]),
          element('span', { className: 'part' }),
        );
        item.dataset.stage = stage;
        return item;
      }),
    );
    this.#stage = '';
    this.#left = null;
    this.#spokenAt = performance.now();
    byId('run-bar').removeAttribute('value'); // moving, without an end: not known yet
    clearInterval(this.#clock);
    this.#clock = setInterval(() => this.#showTime(), 1000);
    this.enter(stages[0]);
  }

  end() {
    clearInterval(this.#clock);
  }

  /** Mark a stage as the one at work. */
  enter(stage) {
    if (stage === this.#stage) return;
    this.#stage = stage;
    let passed = true;
    for (const item of byId('stages').children) {
      const isNow = item.dataset.stage === stage;
      if (isNow) passed = false;
      item.className = isNow ? 'now' : passed ? 'done' : '';
      if (isNow) item.setAttribute('aria-current', 'step');
      else item.removeAttribute('aria-current');
      item.lastChild.textContent = '';
      if (isNow) this.#say(item.firstChild.textContent);
    }
    this.#showTime();
  }

  show({ stage, done, total, fraction, seconds_left }) {
    this.enter(stage);
    byId('run-bar').value = fraction;
    if (total > 1) {
      const item = byId('stages').querySelector('.now .part');
      if (item) item.textContent = `${done} of ${total}`;
    }
    this.#left = seconds_left;
    this.#leftAt = performance.now();
    this.#showTime();
    if (performance.now() - this.#spokenAt > 1000 * SPEAK_EVERY_S)
      this.#say(`${percent(fraction)}. ${timeLeft(seconds_left)}`);
  }

  #showTime() {
    const passed = (performance.now() - this.#leftAt) / 1000;
    byId('time-left').textContent = timeLeft(this.#left === null ? null : Math.max(0, this.#left - passed));
  }

  #say(text) {
    byId('run-status').textContent = text;
    this.#spokenAt = performance.now();
  }
}
