// The picture: slices of the scan with its labels, drawn on a 2D canvas, so that no GPU is needed and the page never
// waits for one. Voxels are counted as (z, y, x): z to the head, y to the back, x to the patient's left.

import { Model3d } from './model_3d.mjs';
import { PLANES, Slices } from './slices.mjs';

const MAX_ZOOM = 8;
const CROSSHAIR_GAP = 10; // px
/** The viewer of one page: made once, shows one result after the other. */
export class Viewer {
  #canvas;
  #model;
  #plane = 'all';
  #slices = new Slices();
  #view = null; // `view` of the result
  #at = [0, 0, 0]; // the crosshair
  #center = [0, 0, 0]; // what a zoomed picture is about; it rests while a finger is down
  #zoom = 1;
  #boxes = []; // where the planes stand on the canvas
  #fingers = new Map(); // pointers that are down
  #waits = false; // for the next frame

  /** Called with `{ label, hu }` whenever the crosshair moves. */
  onPlace = () => {};

  constructor(canvas, canvas3d) {
    this.#canvas = canvas;
    this.#model = new Model3d(canvas3d);
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('pointerdown', (event) => this.#press(event));
    canvas.addEventListener('pointermove', (event) => this.#drag(event));
    for (const end of ['pointerup', 'pointercancel'])
      canvas.addEventListener(end, ({ pointerId }) => this.#release(pointerId));
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener('dblclick', () => this.#setZoom(1));
    new ResizeObserver(() => this.#redraw()).observe(canvas);
  }

  /** Show a `Result`. */
  show({ view }, labels) {
    this.#view = view;
    this.#slices.show(view, labels);
    this.#model.prepare(view.labels_3d, labels);
    this.#at = this.#center = view.shape.map((count) => count >> 1);
    this.#zoom = 1;
    this.#redraw();
  }

  /** Let go of the scan. */
  clear() {
    this.#view = null;
    this.#slices.clear();
    this.#model.clear();
  }

  /** Show one plane, `all` three, or `3d`; the promise rejects where the GPU cannot draw. */
  async setPlane(plane) {
    this.#plane = plane;
    this.#canvas.hidden = plane === '3d';
    this.#model.hidden = plane !== '3d';
    if (plane === '3d') await this.#model.draw();
    else this.#redraw();
    this.#tellPlace();
  }

  setWindow(name) {
    this.#slices.setWindow(name);
    this.#redraw();
  }

  setOpacity(share) {
    this.#slices.setOpacity(share);
    this.#redraw();
  }

  setVisible({ label, color }, visible) {
    this.#slices.setColor(label, visible ? color : null);
    this.#model.setVisible(label, visible);
    this.#redraw();
  }

  /** Move the crosshair to a voxel of the view. */
  goTo(zyx) {
    if (!this.#view) return;
    this.#at = zyx.map((index, axis) => Math.min(this.#view.shape[axis] - 1, Math.max(0, Math.round(index))));
    if (!this.#fingers.size) this.#center = this.#at;
    this.#model.goTo(this.#at.map((index, axis) => (index + 0.5) / this.#view.shape[axis]));
    this.#redraw();
    this.#tellPlace();
  }

  /** `{ index, count }` of the slice of a plane, from 0; null where several planes or 3D are shown. */
  get slice() {
    const axis = PLANES[this.#plane]?.through;
    return axis === undefined || !this.#view ? null : { index: this.#at[axis], count: this.#view.shape[axis] };
  }

  set slice(index) {
    this.#move(PLANES[this.#plane].through, index - this.slice.index);
  }

  #move(axis, step) {
    this.goTo(this.#at.map((index, each) => index + (each === axis ? step : 0)));
  }

  #tellPlace() {
    if (this.#view) this.onPlace(this.#slices.at(this.#at));
  }

  /* Drawing */

  /** Once a frame at most. */
  #redraw() {
    if (this.#waits || !this.#view) return;
    this.#waits = true;
    requestAnimationFrame(() => {
      this.#waits = false;
      if (this.#view && this.#plane !== '3d') this.#draw();
    });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const context = this.#canvas.getContext('2d', { alpha: false });
    this.#canvas.width = width * devicePixelRatio;
    this.#canvas.height = height * devicePixelRatio;
    context.scale(devicePixelRatio, devicePixelRatio);
    context.imageSmoothingQuality = 'high';
    this.#boxes = this.#arranged(width, height);
    for (const box of this.#boxes) this.#drawPlane(context, box);
  }

  /** All planes: the axial one largest, the others beside or below it. */
  #arranged(width, height) {
    const wide = width > height;
    const places = {
      axial: wide ? [0, 0, 0.62, 1] : [0, 0, 1, 0.6],
      coronal: wide ? [0.63, 0, 0.37, 0.495] : [0, 0.61, 0.495, 0.39],
      sagittal: wide ? [0.63, 0.505, 0.37, 0.495] : [0.505, 0.61, 0.495, 0.39],
    };
    const shown = this.#plane === 'all' ? Object.entries(places) : [[this.#plane, [0, 0, 1, 1]]];
    return shown.map(([name, [x, y, w, h]]) =>
      this.#fitted({ name, x: x * width, y: y * height, width: w * width, height: h * height }),
    );
  }

  /** A box with the place of the slice in it: true to scale, around the center where it is larger. */
  #fitted(box) {
    const { across, down } = PLANES[box.name];
    const { shape, spacing_mm } = this.#view;
    const mm = [shape[across] * spacing_mm[across], shape[down] * spacing_mm[down]];
    const scale = Math.min(box.width / mm[0], box.height / mm[1]) * this.#zoom;
    const [width, height] = mm.map((side) => side * scale);
    const shares = (at) => [(at[across] + 0.5) / shape[across], this.#downward(down, at[down]) / shape[down]];
    const middle = shares(this.#center);
    const begin = (from, room, size, part) =>
      size <= room ? from + (room - size) / 2 : from + Math.min(0, Math.max(room - size, room / 2 - part * size));
    return {
      ...box,
      slice: {
        x: begin(box.x, box.width, width, middle[0]),
        y: begin(box.y, box.height, height, middle[1]),
        width,
        height,
        share: shares(this.#at),
      },
    };
  }

  /** The middle of a row of a plane, counted from the top; the head is on top. */
  #downward(axis, index) {
    return axis === 0 ? this.#view.shape[0] - 0.5 - index : index + 0.5;
  }

  #drawPlane(context, { name, x, y, width, height, slice }) {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.drawImage(this.#slices.painted(name, this.#at[PLANES[name].through]), slice.x, slice.y, slice.width, slice.height);
    const [across, down] = [slice.x + slice.share[0] * slice.width, slice.y + slice.share[1] * slice.height];
    context.beginPath();
    for (const side of [-1, 1]) {
      context.moveTo(across + side * CROSSHAIR_GAP, down);
      context.lineTo(across + side * 4096, down);
      context.moveTo(across, down + side * CROSSHAIR_GAP);
      context.lineTo(across, down + side * 4096);
    }
    context.strokeStyle = 'rgb(95 201 193 / 85%)';
    context.stroke();
    const [left, right, top] = PLANES[name].letters;
    context.font = '600 13px system-ui, sans-serif';
    context.fillStyle = '#b9c4ca';
    context.textBaseline = 'middle';
    context.textAlign = 'center';
    context.fillText(left, x + 12, y + height / 2);
    context.fillText(right, x + width - 12, y + height / 2);
    context.fillText(top, x + width / 2, y + 12);
    context.restore();
  }

  /* Fingers, mouse, keys */

  #boxAt({ offsetX, offsetY }) {
    return this.#boxes.find(
      ({ x, y, width, height }) => offsetX >= x && offsetX < x + width && offsetY >= y && offsetY < y + height,
    );
  }

  #press(event) {
    const box = this.#boxAt(event);
    if (!box) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, { box, x: event.offsetX, y: event.offsetY });
    if (this.#fingers.size === 1) this.#goToPoint(box, event);
  }

  #drag(event) {
    const finger = this.#fingers.get(event.pointerId);
    if (!finger) return;
    const before = this.#spread();
    Object.assign(finger, { x: event.offsetX, y: event.offsetY });
    if (this.#fingers.size === 1) this.#goToPoint(finger.box, event);
    else if (before > 0) this.#setZoom((this.#zoom * this.#spread()) / before);
  }

  #release(pointerId) {
    if (!this.#fingers.delete(pointerId) || this.#fingers.size) return;
    this.#center = this.#at;
    this.#redraw();
  }

  /** Distance of two fingers, px. */
  #spread() {
    const [a, b] = this.#fingers.values();
    return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  }

  #goToPoint({ name, slice }, { offsetX, offsetY }) {
    const { across, down } = PLANES[name];
    const to = [...this.#at];
    to[across] = ((offsetX - slice.x) / slice.width) * this.#view.shape[across] - 0.5;
    const row = ((offsetY - slice.y) / slice.height) * this.#view.shape[down] - 0.5;
    to[down] = down === 0 ? this.#view.shape[0] - 1 - row : row;
    this.goTo(to);
  }

  #wheel(event) {
    const box = this.#boxAt(event);
    if (!box) return;
    event.preventDefault();
    if (event.ctrlKey) this.#setZoom(this.#zoom * 2 ** (-event.deltaY / 100)); // two fingers on a touchpad
    else this.#move(PLANES[box.name].through, -Math.sign(event.deltaY));
  }

  #setZoom(zoom) {
    this.#zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
    this.#redraw();
  }

  #key(event) {
    const { through, across, down } = PLANES[this.#plane] ?? PLANES.axial;
    const upward = down === 0 ? 1 : -1; // the head is on top, the back below
    const move = {
      ArrowLeft: [across, -1],
      ArrowRight: [across, 1],
      ArrowUp: [down, upward],
      ArrowDown: [down, -upward],
      PageUp: [through, 1],
      PageDown: [through, -1],
    }[event.key];
    if (['+', '-'].includes(event.key)) this.#setZoom(this.#zoom * (event.key === '+' ? 1.25 : 0.8));
    if (!move || !this.#view) return;
    event.preventDefault();
    this.#move(...move);
  }
}
