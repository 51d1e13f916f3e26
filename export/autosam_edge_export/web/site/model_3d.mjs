// The organs in 3D: niivue draws a small copy of the labels. It is loaded when a person asks for 3D, as it keeps the
// page busy while it prepares its textures.

let gpu; // not known yet

/** Whether a GPU draws: a processor that plays the GPU is too slow for 3D. */
export function gpuDraws() {
  if (gpu !== undefined) return gpu;
  const gl = document.createElement('canvas').getContext('webgl2');
  if (!gl) return (gpu = false);
  const names = gl.getExtension('WEBGL_debug_renderer_info');
  const renderer = String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return (gpu = !/swiftshader|llvmpipe|software|basic render/i.test(renderer));
}

export class Model3d {
  #canvas;
  #nv = null;
  #file = null; // of the result, until it is drawn
  #colors = null;
  #place = [0.5, 0.5, 0.5]; // the crosshair, in niivue's order

  constructor(canvas) {
    this.#canvas = canvas;
    for (const name of ['keydown', 'keyup']) // one of niivue's own keys opens an alert
      canvas.parentElement.addEventListener(name, (event) => event.target === canvas && event.stopPropagation(), true);
  }

  set hidden(value) {
    this.#canvas.hidden = value;
  }

  /** Take a result; nothing is drawn yet. `file`: NIfTI file of labels. */
  prepare(file, labels) {
    this.#file = file;
    this.#colors = colorTable(labels);
  }

  /** Let go of the result; textures of the GPU stay until the next one takes their place. */
  clear() {
    this.#file = null;
    for (const volume of [...(this.#nv?.volumes ?? [])]) this.#nv.removeVolume(volume);
  }

  async draw() {
    this.#nv ??= await attached(this.#canvas);
    if (this.#file) {
      const file = this.#file;
      this.#file = null;
      const { NVImage } = globalThis.niivue;
      const organs = await NVImage.loadFromUrl({ url: 'labels.nii', name: 'labels.nii', buffer: file });
      organs.setColormapLabel(this.#colors);
      this.#nv.addVolume(organs);
      this.#nv.setRenderAzimuthElevation(195, 10); // seen from the front
      this.#nv.setScale(1.2);
    }
    this.#show();
  }

  setVisible(label, visible) {
    this.#colors.A[this.#colors.I.indexOf(label)] = visible ? 255 : 0;
    const [organs] = this.#nv?.volumes ?? [];
    if (!organs) return;
    organs.setColormapLabel(this.#colors);
    this.#nv.updateGLVolume();
  }

  /** Move the crosshair to a place; shares of the sides (z, y, x), niivue counts x and y the other way. */
  goTo([z, y, x]) {
    this.#place = [1 - x, 1 - y, z];
    if (this.#nv?.volumes.length && !this.#canvas.hidden) this.#show();
  }

  #show() {
    this.#nv.scene.crosshairPos = this.#place;
    this.#nv.drawScene();
  }
}

async function attached(canvas) {
  await import('./vendor/viewer/niivue.umd.js'); // sets globalThis.niivue
  const { Niivue, SLICE_TYPE } = globalThis.niivue;
  const nv = new Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [0.37, 0.79, 0.76, 0.9],
    crosshairWidth: 1,
    crosshairWidthUnit: 'mm',
    isOrientCube: false,
    dragAndDropEnabled: false,
    showLegend: false,
    isColorbar: false,
    logLevel: 'error',
    loadingText: '',
  });
  await nv.attachToCanvas(canvas);
  nv.setSliceType(SLICE_TYPE.RENDER);
  return nv;
}

/** niivue's table of label colors: value 0 is transparent. */
function colorTable(labels) {
  const all = [{ label: 0, title: '', color: [0, 0, 0] }, ...labels];
  return {
    R: all.map(({ color }) => color[0]),
    G: all.map(({ color }) => color[1]),
    B: all.map(({ color }) => color[2]),
    A: all.map(({ label }) => (label ? 255 : 0)),
    I: all.map(({ label }) => label),
    labels: all.map(({ title }) => title),
  };
}
