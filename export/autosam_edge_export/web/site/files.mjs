// Choosing and dropping files. A dropped folder is read to its end; hidden files of the system are left out.

import { byId } from './elements.mjs';

const isHidden = (name) => name.startsWith('.') || name === 'Thumbs.db' || name === 'desktop.ini';

/** Call `onFiles(files)` for every choice; `mayDrop()` tells whether files may be dropped now. */
export function listenForFiles(onFiles, mayDrop) {
  for (const id of ['folder', 'files']) {
    const input = byId(id);
    byId(`choose-${id}`).addEventListener('click', () => input.click());
    input.addEventListener('change', () => {
      const chosen = [...input.files].filter((file) => !isHidden(file.name));
      input.value = ''; // so that the same choice counts again
      if (chosen.length) onFiles(chosen);
    });
  }
  // Without a way to choose folders (phones), choosing files is the main way.
  if (!('webkitdirectory' in HTMLInputElement.prototype)) {
    byId('choose-folder').hidden = true;
    byId('choose-files').classList.add('primary');
  }
  let depth = 0; // dragenter and dragleave also come from children
  const mark = (step) => {
    depth = step === null ? 0 : depth + step;
    byId('drop').classList.toggle('over', depth > 0);
  };
  addEventListener('dragenter', () => mark(1));
  addEventListener('dragleave', () => mark(-1));
  addEventListener('dragover', (event) => {
    event.preventDefault();
    event.dataTransfer.dropEffect = mayDrop() ? 'copy' : 'none';
  });
  addEventListener('drop', async (event) => {
    event.preventDefault(); // otherwise the browser would leave the page and open the file
    mark(null);
    if (!mayDrop()) return;
    const dropped = await filesOf(event.dataTransfer);
    if (dropped.length && mayDrop()) onFiles(dropped);
  });
}

async function filesOf(transfer) {
  // The entries must be taken before the first await: the browser empties the list after the event.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return files;
}

async function collect(entry, files) {
  if (isHidden(entry.name)) return;
  if (entry.isFile) {
    files.push(await new Promise((done, failed) => entry.file(done, failed)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // each call gives at most 100 entries; an empty list is the end
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    some.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const child of some) await collect(child, files);
  }
}
