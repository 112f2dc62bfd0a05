// The album: finished pictures, kept by this browser, and the jobs to come back to after a reload.

const ALBUM_MOST = 60;
const JOBS = 'imagepool.jobs';
let album = null;

/** Opens the album. Without one, pictures live as long as the page. */
function openAlbum() {
  return new Promise((resolve) => {
    let request;
    try { request = indexedDB.open('imagepool', 1); } catch { return resolve(); }
    request.onupgradeneeded = () => {
      request.result.createObjectStore('facts', { keyPath: 'key' });
      request.result.createObjectStore('files');
    };
    request.onsuccess = () => { album = request.result; resolve(); };
    request.onerror = request.onblocked = () => resolve();
  });
}

function inAlbum(mode, work) {
  if (!album) return Promise.resolve(null);
  return new Promise((resolve) => {
    const turn = album.transaction(['facts', 'files'], mode);
    const request = work(turn.objectStore('facts'), turn.objectStore('files'));
    turn.oncomplete = () => resolve(request?.result ?? null);
    turn.onerror = turn.onabort = () => resolve(null);
  });
}

const albumFacts = async () => (await inAlbum('readonly', (facts) => facts.getAll())) ?? [];
const albumFile = (key) => inAlbum('readonly', (_, files) => files.get(key));
const albumForget = (key) => inAlbum('readwrite', (facts, files) => { facts.delete(key); files.delete(key); });

async function albumKeep(entry) {
  const { key, job, created, ms, receipt, prompt, model, size, steps, worker, thumb } = entry;
  const facts = { key, job, created, ms, receipt, prompt, model, size, steps, worker, thumb };
  await inAlbum('readwrite', (all, files) => { all.put(facts); files.put(entry.file, key); });
}

/** A small copy for the strip: sixty large pictures would be hundreds of megabytes. */
async function thumbOf(file) {
  const whole = await createImageBitmap(file);
  const scale = Math.min(1, 160 / Math.min(whole.width, whole.height));
  const canvas = make('canvas', { width: Math.round(whole.width * scale), height: Math.round(whole.height * scale) });
  const brush = canvas.getContext('2d');
  brush.imageSmoothingQuality = 'high';
  brush.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/webp', 0.85));
}

const rememberedJobs = () => parsed(stored('localStorage', JOBS) || '[]');

/** Remembers the jobs of this page, and leaves those of other tabs as they are. */
function rememberJobs(entries, own) {
  const others = rememberedJobs().filter(({ key }) => !own.has(key));
  const facts = entries.map(({ key, job, created, prompt, model, size, steps }) => ({ key, job, created, prompt, model, size, steps }));
  const all = [...others, ...facts];
  store('localStorage', JOBS, all.length ? JSON.stringify(all) : null);
}
