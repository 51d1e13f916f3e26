// The picture: niivue draws the scan and its labels; this module turns, windows and moves it.

const PLANES = { axial: 2, coronal: 1, sagittal: 0 }; // plane -> axis of its normal in RAS
const AXES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2] }; // plane -> axes to the right and up

/** Lower and upper end in HU. */
export const WINDOWS = {
  'soft tissue': [-160, 240],
  liver: [-45, 105],
  lung: [-1350, 150],
  bone: [-500, 1300],
};

let gpu; // not known yet

/** Whether a GPU draws: a processor that plays the GPU is too slow for 3D. null: no WebGL 2 at all. */
export function gpuDraws() {
  if (gpu !== undefined) return gpu;
  const gl = document.createElement('canvas').getContext('webgl2');
  if (!gl) return (gpu = null);
  const names = gl.getExtension('WEBGL_debug_renderer_info');
  const renderer = String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return (gpu = !/swiftshader|llvmpipe|software|basic render/i.test(renderer));
}

/** `viewVoxels` of this device: phones and tablets have little memory, and a processor that plays the GPU is slow. */
export const viewVoxels = () => (gpuDraws() && matchMedia('(pointer: fine)').matches ? undefined : 12e6);

/** The viewer of one page: made once, shows one result after the other. */
export class Viewer {
  #nv;
  #canvas;
  #plane = 'all';
  #window = 'soft tissue';
  #opacity = 0.5;
  #colors = null;
  #redraw = false;

  /** Called with `{ label, hu }` whenever the crosshair moves. */
  onPlace = () => {};

  constructor(canvas) {
    this.#canvas = canvas;
    // Before niivue's own keys, one of which opens an alert.
    canvas.parentElement.addEventListener('keydown', (event) => this.#key(event), true);
    canvas.parentElement.addEventListener('keyup', (event) => event.stopPropagation(), true);
  }

  async #attach() {
    await import('./vendor/viewer/niivue.umd.js'); // sets globalThis.niivue
    const { Niivue, SHOW_RENDER, DRAG_MODE } = globalThis.niivue;
    this.#nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.37, 0.79, 0.76, 0.9],
      crosshairWidth: 1,
      crosshairWidthUnit: 'mm',
      crosshairGap: 10,
      fontColor: [0.65, 0.7, 0.73, 1],
      fontMinPx: 13,
      fontSizeScaling: 0.3,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      isOrientCube: false,
      multiplanarPadPixels: 6,
      multiplanarShowRender: SHOW_RENDER.NEVER,
      dragMode: DRAG_MODE.pan,
      dragAndDropEnabled: false,
      showLegend: false,
      isColorbar: false,
      logLevel: 'error',
      loadingText: '',
    });
    this.#nv.onLocationChange = () => this.#tellPlace();
    this.#nv.resetBriCon = () => {}; // a long press or double click would leave the chosen window
    await this.#nv.attachToCanvas(this.#canvas);
    new ResizeObserver(() => this.#arrange()).observe(this.#canvas);
  }

  /** All planes: the axial one largest, the others beside or below it. */
  #arrange() {
    if (this.#plane !== 'all') {
      this.#nv.clearCustomLayout();
      return;
    }
    const wide = this.#canvas.clientWidth > this.#canvas.clientHeight;
    const places = wide
      ? [
          [0, 0, 0.62, 1],
          [0.63, 0, 0.37, 0.495],
          [0.63, 0.505, 0.37, 0.495],
        ]
      : [
          [0, 0, 1, 0.6],
          [0, 0.61, 0.495, 0.39],
          [0.505, 0.61, 0.495, 0.39],
        ];
    this.#nv.setCustomLayout(places.map((position, sliceType) => ({ sliceType, position })));
  }

  /** Show a `Result`. */
  async show(result, labels) {
    if (!this.#nv) await this.#attach();
    const { NVImage } = globalThis.niivue;
    const [low, high] = WINDOWS[this.#window];
    const load = (name, buffer, more) => NVImage.loadFromUrl({ url: name, name, buffer, ...more });
    const image = await load('image.nii', result.view.image, { colormap: 'gray', cal_min: low, cal_max: high });
    const organs = await load('labels.nii', result.view.labels, { opacity: this.#opacity });
    this.#colors = colorTable(labels);
    organs.setColormapLabel(this.#colors);
    this.#nv.addVolume(image);
    this.#nv.addVolume(organs);
    this.#nv.setRenderAzimuthElevation(195, 10); // 3D: seen from the front
    this.#nv.setScale(1.4);
    this.setPlane(this.#plane);
  }

  /** Let go of the scan; textures of the GPU stay until the next one takes their place. */
  clear() {
    for (const volume of [...(this.#nv?.volumes ?? [])].reverse()) this.#nv.removeVolume(volume);
  }

  setPlane(plane) {
    this.#plane = plane;
    if (!this.#nv?.volumes.length) return;
    const types = globalThis.niivue.SLICE_TYPE;
    // In 3D the organs stand alone: the scan around them would hide them.
    const opacity = plane === '3d' ? 0 : 1;
    if (this.#nv.volumes[0].opacity !== opacity) {
      this.#nv.volumes[0].opacity = opacity;
      this.#update();
    }
    this.#nv.setSliceType(
      {
        all: types.MULTIPLANAR,
        axial: types.AXIAL,
        coronal: types.CORONAL,
        sagittal: types.SAGITTAL,
        '3d': types.RENDER,
      }[plane],
    );
    this.#arrange();
    this.#tellPlace();
  }

  setWindow(name) {
    this.#window = name;
    const image = this.#nv?.volumes[0];
    if (image) [image.cal_min, image.cal_max] = WINDOWS[name];
    this.#update();
  }

  setOpacity(share) {
    this.#opacity = share;
    if (this.#nv?.volumes[1]) this.#nv.volumes[1].opacity = share;
    this.#update();
  }

  setVisible(label, visible) {
    this.#colors.A[this.#colors.I.indexOf(label)] = visible ? 255 : 0;
    this.#nv?.volumes[1]?.setColormapLabel(this.#colors);
    this.#update();
  }

  /** Move the crosshair to a place in RAS mm. */
  goTo(mm) {
    if (this.#nv?.volumes.length) this.#place(this.#nv.mm2frac(mm));
  }

  /** `{ index, count }` of the slice of a plane, from 0; null where several planes or 3D are shown. */
  get slice() {
    const axis = PLANES[this.#plane];
    if (axis === undefined || !this.#nv?.volumes.length) return null;
    const count = this.#nv.volumes[0].dimsRAS[axis + 1];
    return { index: Math.min(count - 1, Math.floor(this.#nv.scene.crosshairPos[axis] * count)), count };
  }

  set slice(index) {
    const axis = PLANES[this.#plane];
    const to = [...this.#nv.scene.crosshairPos];
    to[axis] = (index + 0.5) / this.#nv.volumes[0].dimsRAS[axis + 1];
    this.#place(to);
  }

  #place(fraction) {
    this.#nv.scene.crosshairPos = fraction;
    this.#nv.drawScene();
    this.#tellPlace();
  }

  /** Once a frame at most: every call bakes both volumes into textures anew. */
  #update() {
    if (this.#redraw || !this.#nv?.volumes.length) return;
    this.#redraw = true;
    requestAnimationFrame(() => {
      this.#redraw = false;
      this.#nv.updateGLVolume();
    });
  }

  #tellPlace() {
    const [image, organs] = this.#nv.volumes;
    if (!organs) return;
    const at = this.#nv.frac2vox(this.#nv.scene.crosshairPos);
    this.onPlace({ label: organs.getValue(...at), hu: image.getValue(...at) });
  }

  #key(event) {
    event.stopPropagation();
    const [right, up] = AXES[this.#plane] ?? AXES.axial;
    const through = PLANES[this.#plane] ?? PLANES.axial;
    // The patient's left is on the right of the picture: to the right means to smaller RAS x. Sagittal: nose left.
    const toRight = -1;
    const move = {
      ArrowLeft: [right, -toRight],
      ArrowRight: [right, toRight],
      ArrowUp: [up, 1],
      ArrowDown: [up, -1],
      PageUp: [through, 1],
      PageDown: [through, -1],
    }[event.key];
    if (!move || !this.#nv?.volumes.length) return;
    event.preventDefault();
    const step = [0, 0, 0];
    step[move[0]] = move[1];
    this.#nv.moveCrosshairInVox(...step);
    this.#tellPlace();
  }
}

/** niivue's table of label colors: value 0 is transparent. */
function colorTable(labels) {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [''] };
  for (const {
    label,
    title,
    color: [red, green, blue],
  } of labels) {
    table.R.push(red);
    table.G.push(green);
    table.B.push(blue);
    table.A.push(255);
    table.I.push(label);
    table.labels.push(title);
  }
  return table;
}
