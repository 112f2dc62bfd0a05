// Pictures of this page: asked for, growing, finished. An entry is one picture from the request to the file.

/** Browsers allow six connections to one address; the page and its twin in another tab must leave some free. */
const STREAMS_MOST = 2;
/** Pixels of a picture for one of its preview, along a side. */
const LATENT = 8;
/** Time for which a finished picture stays before the next one is shown. */
const LINGER_MS = 2500;
const ACTIVE = ['waiting', 'loading', 'drawing'];

let entries = [];
let selected = null;
/** Keys of every entry that this page has or had: another tab keeps others. */
const ownKeys = new Set();
/** Whether the page may show another picture by itself; false once a person has chosen one. */
let following = true;

const isActive = (entry) => ACTIVE.includes(entry.state);
const activeEntries = () => entries.filter(isActive);
const repaint = perFrame(() => { paintStrip(); paintStage(); paintFacts(); paintPulse(); });

function addEntry(facts) {
  const entry = { state: 'waiting', step: 0, position: null, eta: null, stream: null, tries: 0, retryAt: 0, ...facts };
  entries.push(entry);
  ownKeys.add(entry.key);
  entries.sort((a, b) => b.created - a.created || (a.order ?? 0) - (b.order ?? 0));
  return entry;
}

function select(entry, byHand = true) {
  selected = entry;
  if (byHand) following = !entry || isActive(entry);
  repaint();
  pump();
}

/** Sends a request and follows its pictures. */
async function draw(request) {
  const { seed, ...rest } = request;
  const json = JSON.stringify({ ...rest, async: true });
  // The seed is written as it was typed: a number of this language would lose its last digits.
  const body = seed ? `{"seed":${seed},${json.slice(1)}` : json;
  const response = await call('POST', '/v1/images/generations', { body, byHand: true });
  const answer = await response.json();
  const created = Date.now();
  const added = (answer.ids ?? [answer.id]).map((job, order) => addEntry({
    key: `${created}-${job}`, job, created, order, prompt: request.prompt, model: request.model ?? '',
    size: request.size, steps: request.num_inference_steps ?? 0,
    position: answer.position ?? null, eta: answer.eta_seconds ?? null,
  }));
  rememberJobs(activeEntries(), ownKeys);
  following = true;
  select(added[0], false);
  const place = answer.position ? `Position ${answer.position} in the queue.` : '';
  announce(`${plural(added.length, 'picture')} accepted. ${place}`);
  refreshSoon();
}

async function cancel(job) {
  try {
    await call('DELETE', `/v1/pool/jobs/${job}`, { byHand: true });
    refreshSoon();
  } catch (problem) {
    complain(sentenceOf(problem));
  }
}

/** Opens the streams that matter most: of the selected picture, then of those being drawn, then of the oldest. */
function pump() {
  const rank = (entry) => (entry === selected ? 0 : entry.state === 'drawing' ? 1 : 2);
  const now = Date.now();
  const wanted = activeEntries()
    .filter((entry) => entry.retryAt <= now)
    .sort((a, b) => rank(a) - rank(b) || a.created - b.created || a.order - b.order)
    .slice(0, STREAMS_MOST);
  if (wanted.every((entry) => entry.stream)) return;
  for (const entry of entries) {
    if (entry.stream && !wanted.includes(entry)) entry.stream.abort();
  }
  for (const entry of wanted) if (!entry.stream) follow(entry);
}

async function follow(entry) {
  const stop = new AbortController();
  entry.stream = stop;
  try {
    for await (const { event, data } of eventsOf(`/v1/pool/jobs/${entry.job}/events`, stop.signal)) {
      if (!isActive(entry)) break;
      entry.tries = 0;
      await hear(entry, event, data);
      repaint();
    }
    if (isActive(entry) && !stop.signal.aborted) later(entry);
  } catch (problem) {
    if (stop.signal.aborted) return;
    if (problem.status === 404) end(entry, 'failed', 'The server no longer has this picture.');
    else if (problem.status === 401 || problem.status === 403) end(entry, 'failed', sentenceOf(problem));
    else later(entry);
  } finally {
    if (entry.stream === stop) entry.stream = null;
    stop.abort();
    pump();
  }
}

/** Tries the stream again in a while. */
function later(entry) {
  entry.tries += 1;
  if (entry.tries > 8) return end(entry, 'failed', 'The connection to the server was lost.');
  const wait = Math.min(8000, 400 * 2 ** entry.tries);
  entry.retryAt = Date.now() + wait;
  setTimeout(pump, wait + 10);
}

async function hear(entry, event, data) {
  if (event === 'step') hearStep(entry, data);
  else if (event === 'preview') hearPreview(entry, data);
  else if (event === 'end') await hearEnd(entry, data);
  else if (event === 'accepted') {
    Object.assign(entry, { model: data.model, size: `${data.width}x${data.height}`, steps: data.steps });
  } else if (event === 'started') {
    Object.assign(entry, { worker: data.worker, attempt: data.attempt, position: null, step: data.step ?? 0 });
  } else if (event === 'queued') {
    Object.assign(entry, { state: 'waiting', position: data.position, eta: data.eta_seconds ?? null });
  } else if (event === 'loading') {
    Object.assign(entry, { state: 'loading', part: data.progress, eta: null, fetching: null });
  } else if (event === 'fetching') {
    Object.assign(entry, { state: 'loading', part: data.here_bytes / Math.max(1, data.all_bytes), eta: null, fetching: data });
  }
}

function hearStep(entry, data) {
  entry.steps = data.steps || entry.steps;
  entry.position = data.position ?? null;
  entry.eta = data.eta_seconds ?? null;
  if (!(data.step > 0)) return;
  if (entry.state !== 'drawing') began(entry);
  entry.step = data.step;
  refreshSoon();
}

function began(entry) {
  Object.assign(entry, { state: 'drawing', position: null, part: null, fetching: null });
  moveOn();
  if (entry === selected) announce('Drawing.');
}

/** Shows the next picture that grows, after the finished one was seen for a moment. */
function moveOn() {
  const next = activeEntries().filter((entry) => entry.state === 'drawing').at(-1);
  if (!following || !next || selected?.state === 'drawing') return;
  const left = (selected?.endedAt ?? 0) + LINGER_MS - Date.now();
  if (left > 0) setTimeout(moveOn, left);
  else select(next, false);
}

function hearPreview(entry, { b64_json, width, height, step }) {
  const bytes = Uint8Array.from(atob(b64_json), (letter) => letter.charCodeAt(0));
  if (entry.preview) dropLater(entry.preview);
  entry.preview = URL.createObjectURL(new Blob([bytes], { type: 'image/png' }));
  entry.shape ??= [width, height].map((side) => side * LATENT);
  entry.step = Math.max(entry.step, step ?? 0);
  if (entry.state !== 'drawing') began(entry);
}

/** Frees a picture's address after the frames that may still show it. */
const dropLater = (url) => setTimeout(() => URL.revokeObjectURL(url), 4000);

async function hearEnd(entry, { state, error }) {
  if (state === 'finished') return fetchPicture(entry);
  const sentence = error?.message ?? (typeof error === 'string' ? error : null);
  end(entry, state === 'cancelled' ? 'cancelled' : 'failed', sentence && sentenceCase(sentence));
}

async function fetchPicture(entry) {
  const response = await call('GET', `/v1/pool/jobs/${entry.job}/image`);
  entry.file = await response.blob();
  entry.receipt = await receiptOf(entry.file);
  if (entry.receipt && entry.receipt.prompt !== entry.prompt) {
    return end(entry, 'failed', 'The server was started anew and no longer has this picture.');
  }
  await takeFacts(entry);
  if (entry.receipt) Object.assign(entry, { size: entry.receipt.size, model: entry.receipt.model, steps: entry.receipt.steps });
  entry.thumb = await thumbOf(entry.file);
  end(entry, 'done', null);
  await albumKeep(entry);
  for (const old of entries.filter((other) => other.state === 'done').slice(ALBUM_MOST)) forget(old);
}

/** Takes from the job what the file does not say, or all of it if the server writes no receipts. */
async function takeFacts(entry) {
  const json = await call('GET', `/v1/pool/jobs/${entry.job}`).then((answer) => answer.text(), () => '{}');
  const facts = parsed(json);
  entry.worker = facts.worker ?? null;
  entry.ms = facts.waiting_s ? 1000 * facts.waiting_s : entry.resumed ? null : Date.now() - entry.created;
  if (entry.receipt || facts.seed == null) return;
  entry.receipt = { prompt: entry.prompt, model: facts.model, seed: seedIn(json), steps: facts.steps, size: `${facts.width}x${facts.height}` };
}

function end(entry, state, sentence) {
  entry.state = state;
  entry.endedAt = Date.now();
  entry.sentence = sentence;
  if (state === 'done') announce(`Finished: ${entry.prompt}`);
  if (state === 'cancelled') { announce('Cancelled.'); forget(entry); }
  if (state === 'failed' && sentence) (entry === selected ? announce : complain)(sentence);
  rememberJobs(activeEntries(), ownKeys);
  moveOn();
  repaint();
}

/** Removes a picture from this browser. */
function forget(entry) {
  const at = entries.indexOf(entry);
  if (at < 0) return;
  entries.splice(at, 1);
  for (const url of [entry.url, entry.preview, entry.thumbUrl]) if (url) dropLater(url);
  albumForget(entry.key);
  if (selected === entry) select(entries[at] ?? entries[at - 1] ?? null, false);
  repaint();
}

/** The address of a finished picture; it is read from the album the first time. */
async function pictureUrl(entry) {
  if (!entry.url) {
    entry.file ??= await albumFile(entry.key);
    if (entry.file) entry.url ??= URL.createObjectURL(entry.file);
  }
  return entry.url ?? null;
}

/** Brings back the pictures of the album, and the jobs that were not finished when the page was left. */
async function comeBack() {
  await openAlbum();
  for (const facts of await albumFacts()) addEntry({ ...facts, state: 'done' });
  for (const facts of rememberedJobs()) {
    if (!entries.some((entry) => entry.key === facts.key)) addEntry({ ...facts, resumed: true });
  }
  select(activeEntries().at(-1) ?? entries[0] ?? null, false);
}
