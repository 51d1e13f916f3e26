// Types of autosam-edge.mjs: organ segmentation of a CT scan in the browser, in a web worker of its own.
// Research use only. Not a medical device; not for diagnosis or treatment.
//
//   import { open } from './autosam-edge.mjs';
//   const edge = await open();
//   const result = await edge.segment(input.files, { onProgress: (p) => (bar.value = p.fraction) });
//   save(result.files['segmentation.dcm']);

/** Start the worker, load Python and the model, and prove the provider with the golden tile of the model. */
export function open(options?: OpenOptions): Promise<AutosamEdge>;

export interface OpenOptions {
  /** Folder of the site that `autosam-edge export --target web` wrote. Default: the folder of this module. */
  base?: string | URL;
  /** Threads of the network. Default: half of the cores, 4 at most; 1 on iPhone and iPad. Always 1 on a
   *  page that is not cross-origin isolated. */
  threads?: number;
  /** `auto`: WebAssembly, in several threads where that is possible and proven. `webgpu`: the GPU, if the site
   *  was exported with it and the golden tile passes; otherwise WebAssembly takes its place, see `About.refused`. */
  provider?: 'auto' | 'wasm' | 'webgpu';
  /** Called while the worker starts: stages `python`, `packages`, `model` and `verify`. */
  onProgress?: (progress: Progress) => void;
}

export interface AutosamEdge {
  readonly about: About;
  /** All checks of the model on this device: hashes, the steps around the network, the golden tile.
   *  Rejects with AE-ENGINE-007 if one fails. */
  verify(): Promise<Check[]>;
  /** The CT series that the chosen files hold. Empty for a NIfTI, NRRD or MetaImage file.
   *  Files may share a name (dropped folders): their order tells them apart. */
  listSeries(files: Iterable<File>): Promise<Series[]>;
  /** Label the organs. One scan at a time: a second call waits for the first. */
  segment(files: Iterable<File>, options?: SegmentOptions): Promise<Result>;
  /** The demonstration scan, a phantom of no patient, as one NIfTI file for `segment`. */
  demo(): Promise<File>;
  /** Milliseconds of each of `count` runs of the network on the golden tile, after a first one that is not counted. */
  timeTiles(count: number): Promise<number[]>;
  /** Memory of the worker now, in MB. */
  memory(): Promise<{ python_mb: number; network_mb: number }>;
  /** Stop the worker and free its memory. */
  close(): void;
}

export interface About {
  software: string; // "autosam-edge 0.1.0"
  model: string;
  model_version: string;
  license: string;
  research_use: string; // show it wherever a result is shown
  labels: { label: number; name: string; title: string; color: [number, number, number] }[];
  provider: 'wasm' | 'webgpu';
  /** Providers that the site was exported with. */
  providers: ('wasm' | 'webgpu')[];
  threads: number;
  precision: string;
  /** SHA-256 of the network's file, which tells measurements of two exports apart. */
  model_sha256: string;
  /** Providers that were tried before `provider` and not used, with the reason. */
  refused: Refused[];
  /** Milliseconds of the start by stage. */
  start_ms: Record<string, number>;
}

export interface Refused {
  provider: string; // "webgpu", "wasm with 2 threads"
  code: string; // AE-ENGINE-007: wrong result; AE-ENGINE-002: does not load
  message: string;
}

export interface Check {
  name: string;
  verdict: 'passed' | 'failed' | 'skipped';
  detail: string;
  figures: Record<string, number>;
}

export interface Series {
  /** What `segment` takes as `series`. */
  id: string;
  /** SeriesNumber of the scanner; empty if there is none. */
  number: string;
  slices: number;
  /** Distance of the slices, mm; 0 if it is not known. */
  spacing_mm: number;
  /** Whether its images are reformats or other derived images. */
  derived: boolean;
  /** Whether it is the one that is read if no series is named. */
  preferred: boolean;
  /** A sentence on why it is less suitable; empty if nothing speaks against it. */
  reason: string;
}

export interface SegmentOptions {
  /** `id` of a series, or "all" to join series of one image each. Needed only if the files hold several. */
  series?: string;
  onProgress?: (progress: Progress) => void;
  /** Most voxels of `view`, default 60 million; a larger scan is shown by every second row and column, and slice if
   *  need be. */
  viewVoxels?: number;
  /** When it is aborted, the promise rejects at once with AE-CANCEL-001, and nothing is left behind. */
  signal?: AbortSignal;
  /** Decisions of a person about a doubtful scan; the remedy of an error names them. */
  options?: {
    allow_gap?: boolean;
    assume_hu?: boolean;
    ignore_frame_of_reference?: boolean;
    accept_implausible?: boolean;
    pseudonymize?: boolean;
  };
}

export interface Progress {
  /** At the start: `python`, `packages`, `model`, `verify`. Of a scan: `read`, `network`, `measure`, `write`, `view`. */
  stage: string;
  done: number;
  total: number;
  /** Share of the whole work that is done, 0 to 1; an estimate. */
  fraction: number;
  /** Estimated seconds until the result; null while not known. */
  seconds_left: number | null;
}

export interface Result {
  /** (D, H, W) labels of every voxel of the scan; 0 is the background. Shares its buffer with `view.labels` unless
   *  the view is reduced. */
  labels: Uint8Array;
  shape: [number, number, number];
  /** Spacing along D, H and W, mm. */
  spacing_mm: [number, number, number];
  /** 4 x 4, rows first: voxel [d, h, w, 1] to LPS mm. */
  affine_lps_mm: number[][];
  view: View;
  organs: Organ[];
  /** Most severe first. */
  warnings: Warning[];
  /** null: nothing was checked. */
  verdict: 'plausible' | 'doubtful' | 'implausible' | null;
  /** By name, as far as the input allows: segmentation.nii.gz, segmentation.dcm, statistics.json, statistics.csv. */
  files: Record<string, Blob>;
  /** Seconds by stage. */
  timings_s: Record<string, number>;
}

/** What a viewer shows. */
export interface View {
  /** NIfTI files (voxels from byte 352: int16 HU, uint8 labels) on one grid: the scan's, or a coarser one if `reduced`. */
  image: ArrayBuffer;
  labels: ArrayBuffer;
  reduced: boolean;
  /** NIfTI file with labels of few voxels, for a model in 3D. */
  labels_3d: ArrayBuffer;
  /** Voxels along z (to the head), y (to the back) and x (to the patient's left), and their distances. Voxel (z, y, x) of
   *  both files is number `first + z * steps[0] + y * steps[1] + x * steps[2]`, however the scan lies. */
  shape: [number, number, number];
  spacing_mm: [number, number, number];
  first: number;
  steps: [number, number, number];
}

export interface Organ {
  label: number;
  name: string; // "kidney_left"
  title: string; // "Left kidney"
  color: [number, number, number];
  voxels: number;
  volume_ml: number;
  mean_hu: number | null; // null: not found
  sd_hu: number | null;
  /** The organ reaches the edge of the scan, so that its volume is a lower bound. */
  touches_border: boolean;
  /** Dice that the labels are expected to have against a person's, 0 to 1; null: not found, or the model cannot tell. */
  expected_dice: number | null;
  /** A place inside the organ (RAS mm), and the voxel (z, y, x) of `view` there; null: not found. */
  center_ras_mm: [number, number, number] | null;
  center_zyx: [number, number, number] | null;
}

export interface Warning {
  code: string; // "AE-WARN-041"
  severity: 'info' | 'caution' | 'doubtful';
  message: string;
  /** Name of the organ that it is about; null for the whole scan. */
  organ: string | null;
}

export class AutosamEdgeError extends Error {
  /** Stable identifier such as AE-DICOM-003; docs/errors.md lists all. */
  code: string;
  remedy: string;
  /** Exit code of the command line for this kind of error; 130: cancelled. */
  exitCode: number;
}

/** What service-worker.js posts to its pages (`message` of `navigator.serviceWorker`) while it stores the site on the first
 *  visit. The worker becomes active, and takes over open pages, only when every file is stored. */
export interface Storing {
  type: 'storing';
  stored_bytes: number;
  total_bytes: number;
}
