// Slices as pixels: gray by the window, organs in their colors.

const HEADER = 352; // bytes of a NIfTI file before its voxels
const LOWEST = -32768; // HU

/** Of each plane: the axis through it, those to the right and down, and the letters at its left, right and top. */
export const PLANES = {
  axial: { through: 0, across: 2, down: 1, letters: 'RLA' },
  coronal: { through: 1, across: 2, down: 0, letters: 'RLS' },
  sagittal: { through: 2, across: 1, down: 0, letters: 'APS' },
};

/** Lower and upper end in HU. */
export const WINDOWS = {
  'soft tissue': [-160, 240],
  liver: [-45, 105],
  lung: [-1350, 150],
  bone: [-500, 1300],
};

/** Paints slices of one view after the other, each once. */
export class Slices {
  #view = null; // voxels and how slices lie in them
  #colors = new Map(); // label -> [red, green, blue]; a hidden organ has none
  #grays = new Uint8Array(65536); // gray of each HU
  #opacity = 0.5;
  #painted = {}; // the last slice of each plane

  /** Take `view` of a result. */
  show(view, labels) {
    this.#view = { ...view, hu: new Int16Array(view.image, HEADER), labels: new Uint8Array(view.labels, HEADER) };
    this.#colors = new Map(labels.map(({ label, color }) => [label, color]));
    this.#painted = {};
  }

  clear() {
    this.#view = null;
    this.#painted = {};
  }

  setWindow(name) {
    const [low, high] = WINDOWS[name];
    for (let i = 0; i < this.#grays.length; i++)
      this.#grays[i] = Math.min(255, Math.max(0, Math.round((255 * (i + LOWEST - low)) / (high - low))));
    this.#painted = {};
  }

  setOpacity(share) {
    this.#opacity = share;
    this.#painted = {};
  }

  /** `color` null: the organ is not shown. */
  setColor(label, color) {
    if (color) this.#colors.set(label, color);
    else this.#colors.delete(label);
    this.#painted = {};
  }

  /** `{ label, hu }` of a voxel (z, y, x). */
  at(zyx) {
    const { first, steps, hu, labels } = this.#view;
    const voxel = zyx.reduce((sum, index, axis) => sum + index * steps[axis], first);
    return { label: labels[voxel], hu: hu[voxel] };
  }

  /** A canvas with one pixel a voxel; the head is on top. */
  painted(plane, index) {
    if (this.#painted[plane]?.index === index) return this.#painted[plane].canvas;
    const { through, across, down } = PLANES[plane];
    const { shape, steps, first, hu, labels } = this.#view;
    const image = new ImageData(shape[across], shape[down]);
    const next = down === 0 ? -steps[0] : steps[down];
    let row = first + index * steps[through] + (down === 0 ? (shape[0] - 1) * steps[0] : 0);
    let pixel = 0;
    for (let v = 0; v < shape[down]; v++, row += next)
      for (let u = 0, voxel = row; u < shape[across]; u++, voxel += steps[across], pixel += 4)
        this.#color(image.data, pixel, hu[voxel], labels[voxel]);
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext('2d').putImageData(image, 0, 0);
    this.#painted[plane] = { canvas, index };
    return canvas;
  }

  #color(pixels, at, hu, label) {
    const gray = this.#grays[hu - LOWEST];
    const color = label ? this.#colors.get(label) : undefined;
    for (let i = 0; i < 3; i++) pixels[at + i] = color ? gray + this.#opacity * (color[i] - gray) : gray;
    pixels[at + 3] = 255;
  }
}
