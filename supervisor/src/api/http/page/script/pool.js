// The pool: models and workers, memory, the queue and events, as they are now.

const EVENTS_MOST = 60;
/** Events that come with every step or measurement: they refresh the page and are not listed. */
const FREQUENT = /step|progress|heard|worked|measure|deadline|preview|aged/;
const VERBS = [['start', 'Start'], ['stop', 'Stop'], ['restart', 'Restart'], ['evict', 'Evict'], ['pin', 'Pin'], ['unpin', 'Unpin']];

let status = null;
let statusAt = 0;
let connection = 'wait';
let verbsModel = null;

const mayOperate = () => status?.rights?.includes('operate') ?? false;

async function refresh() {
  try {
    const [now, list] = await Promise.all([call('GET', '/v1/pool/status'), call('GET', '/v1/models')]);
    status = await now.json();
    statusAt = Date.now();
    connection = 'live';
    joinModels((await list.json()).data ?? []);
    followStatus();
    paintPool();
  } catch (problem) {
    connection = problem.status === 401 ? 'locked' : problem.status === 403 ? 'closed' : 'lost';
  }
  paintPulse();
}

/** Refreshes soon, and not more often than twice a second. */
let refreshTimer = null;
let refreshing = false;
function refreshSoon() {
  refreshTimer ??= setTimeout(async () => {
    refreshTimer = null;
    if (refreshing) return refreshSoon();
    refreshing = true;
    await refresh();
    refreshing = false;
  }, 500);
}

/** Models that can be drawn, with what the pool knows about them, then those that cannot. Aliases are left out. */
function joinModels(list) {
  const known = new Map(status.models.map((model) => [model.key, model]));
  const drawable = list.filter((model) => known.has(model.id));
  const usable = drawable.map((model) => ({
    ...model, family: known.get(model.id).family, usable: true,
    status: model.status ?? known.get(model.id).state, reason: model.reason ?? null,
    preferred: model.id === (status.default_model ?? model.id),
  }));
  const rest = status.models.filter((model) => !drawable.some((other) => other.id === model.key))
    .map((model) => ({ id: model.key, family: model.family, usable: false, status: model.state, reason: model.at_rest?.[1] ?? null }));
  takeModels([...usable, ...rest]);
}

/** Brings the page's own jobs up to date with the pool's. */
function followStatus() {
  const queue = new Map(status.queue.map((job) => [job.job, job]));
  const running = new Map(status.workers.filter((worker) => worker.job).map((worker) => [worker.job.id, worker.job]));
  for (const entry of activeEntries()) {
    const job = queue.get(entry.job);
    if (!job) continue;
    if (entry.state !== 'drawing') {
      entry.state = job.state === 'loading' ? 'loading' : 'waiting';
      entry.position = job.state === 'waiting' ? job.position : null;
    }
    const at = running.get(entry.job);
    if (at && !entry.stream && at.step > 0) hearStep(entry, { ...at, eta_seconds: entry.eta });
  }
  repaint();
  pump();
}

function paintPulse() {
  const texts = { wait: 'Connecting', lost: 'No answer from the server', locked: 'A token is needed', closed: 'The pool is not shown to you' };
  const busy = status?.workers.filter((worker) => worker.job).length ?? 0;
  const waiting = status?.queue.filter((job) => job.state !== 'running').length ?? 0;
  const words = [];
  if (status?.supervisor.state === 'draining') words.push('Draining');
  if (busy) words.push(`${busy} drawing`);
  if (waiting) words.push(`${waiting} waiting`);
  if (!words.length && status) words.push(status.workers.length ? `${plural(status.workers.length, 'worker')}, idle` : 'Ready');
  say($('pulse-text'), connection === 'live' ? words.join(', ') : texts[connection]);
  $('pulse').dataset.state = connection !== 'live' ? (connection === 'wait' ? 'wait' : 'bad') : busy || waiting ? 'busy' : 'live';
}

function paintPool() {
  if (!status) return;
  $('pane-pool').classList.remove('bare');
  const draining = status.supervisor.state === 'draining';
  $('pool-note').hidden = !draining;
  say($('pool-note'), draining ? 'The pool finishes its jobs and accepts nothing new.' : '');
  $('queue-none').hidden = status.queue.length > 0;
  keep($('queue'), status.queue, (job) => job.job, makeQueued, paintQueued);
  const order = (model) => (model.state === 'missing' ? 1 : 0);
  keep($('pool-models'), [...status.models].sort((a, b) => order(a) - order(b)), (model) => model.key, makeModel, paintModel);
  const books = status.memory;
  keep($('memory'), books, (book) => book.device, makeBook, paintBook);
}

function makeQueued(job) {
  const stop = make('button', { type: 'button', class: 'icon tiny tail', 'aria-label': `Cancel job ${job.job}`, title: 'Cancel' }, icon('close'));
  stop.onclick = () => cancel(job.job);
  return make('li', {}, make('div', { class: 'line' }, make('b'), make('span', { class: 'faint' }), stop), make('p', { class: 'sub' }));
}

function paintQueued(item, job) {
  const [line, why] = item.children;
  const mine = entries.some((entry) => entry.job === job.job);
  say(line.children[0], `Job ${job.job}`);
  say(line.children[1], job.state === 'waiting' && job.position ? `position ${job.position}` : job.state);
  line.children[2].hidden = !(mine || mayOperate());
  say(why, [job.model, job.reason].filter(Boolean).join(' · '));
}

function makeModel(model) {
  const more = make('button', { type: 'button', class: 'icon', 'aria-label': `Actions for ${model.key}`, title: 'Actions' }, icon('more'));
  more.setAttribute('aria-haspopup', 'menu');
  more.onclick = () => openVerbs(model.key, more);
  const pin = icon('pin', 'badge');
  return make('li', { class: 'model' },
    make('div', { class: 'line' }, make('b'), make('span', { class: 'faint' }), pin, more), make('p', { class: 'sub' }), make('ul', { class: 'crew' }));
}

function paintModel(item, model) {
  const [line, sub, crew] = item.children;
  const workers = status.workers.filter((worker) => worker.model === model.key);
  const [state, why] = model.at_rest ?? [];
  say(line.children[0], model.key);
  say(line.children[1], model.state);
  line.children[2].toggleAttribute('hidden', !model.pinned);
  line.children[3].hidden = !mayOperate();
  sub.title = why ?? '';
  say(sub, [`needs ${memoryText(model.need_mb)}`, why ?? state?.toLowerCase()].filter(Boolean).join(' · '));
  keep(crew, workers, (worker) => worker.name, makeWorker, paintWorker);
}

function makeWorker() {
  return make('li', { class: 'worker' }, make('span', { class: 'dot' }), make('span'), make('span', { class: 'state' }), make('p', { class: 'sub' }), make('div', { class: 'thin' }, make('span')));
}

function paintWorker(item, worker) {
  const [dot, name, state, sub, bar] = item.children;
  const running = worker.state === 'RUNNING';
  dot.className = `dot ${worker.job ? 'busy' : running ? 'live' : worker.state === 'STARTING' ? 'busy' : 'rest'}`;
  say(name, worker.name);
  say(state, running ? (worker.job ? 'drawing' : 'idle') : worker.state.toLowerCase());
  const up = worker.uptime_s + (Date.now() - statusAt) / 1000;
  say(sub, [worker.device, worker.pid && `pid ${worker.pid}`, memoryText(worker.measured_mb ?? worker.reserved_mb[worker.device === 'cpu' ? 'host' : worker.device]),
    worker.job ? `job ${worker.job.id}, step ${worker.job.step} of ${worker.job.steps}` : `up ${lasting(up)}`,
    !worker.job && worker.restarts && plural(worker.restarts, 'restart')].filter(Boolean).join(' · '));
  const part = worker.job ? worker.job.step / Math.max(1, worker.job.steps) : worker.load_progress;
  bar.classList.toggle('idle', part == null);
  bar.firstChild.style.setProperty('--part', part ?? 0);
}

function makeBook() {
  const part = (name) => make('span', { class: name });
  return make('li', {}, make('div', { class: 'line' }, make('b'), make('span', { class: 'faint tail' })),
    make('div', { class: 'gauge', 'aria-hidden': 'true' }, part('reserved'), part('measured'), part('settling'), part('foreign'), part('limit')), make('p', { class: 'sub' }));
}

/** Measured memory of a device: its own figure, or the sum of its workers where it has none. */
function measuredOn(book) {
  const place = book.device === 'host' ? 'cpu' : book.device;
  const known = status.workers.filter((worker) => worker.device === place && worker.measured_mb != null);
  return book.measured_mb ?? (known.length ? known.reduce((sum, worker) => sum + worker.measured_mb, 0) : null);
}

function paintBook(item, book) {
  const [line, gauge, sub] = item.children;
  const gpu = status.devices?.find((device) => device.device === book.device);
  const [measured, foreign] = [measuredOn(book) ?? 0, book.foreign_mb ?? 0];
  const ours = Math.max(book.reserved_mb, measured);
  const whole = Math.max(book.limit_mb, ours + book.settling_mb + foreign, gpu?.total_mb ?? 0, 1);
  const lay = (part, from, size) => {
    part.style.setProperty('--from', `${(100 * from) / whole}%`);
    if (size != null) part.style.setProperty('--size', `${(100 * size) / whole}%`);
  };
  const [reserved, inUse, settling, others, limit] = gauge.children;
  lay(reserved, 0, book.reserved_mb);
  lay(inUse, 0, measured);
  lay(settling, ours, book.settling_mb);
  lay(others, ours + book.settling_mb, foreign);
  lay(limit, book.limit_mb);
  limit.hidden = book.limit_mb >= whole;
  say(line.children[0], gpu ? `${gpu.name} (${book.device})` : book.device === 'host' ? 'Main memory' : book.device);
  say(line.children[1], `limit ${memoryText(book.limit_mb)}`);
  say(sub, [`${memoryText(book.reserved_mb)} reserved`, measuredOn(book) != null && `${memoryText(measured)} measured`,
    book.settling_mb > 0 && `${memoryText(book.settling_mb)} settling`, book.foreign_mb != null && `${memoryText(foreign)} of others`,
    gpu?.temperature_c != null && `${gpu.temperature_c} °C`, gpu?.reason].filter(Boolean).join(' · '));
}

function openVerbs(key, button) {
  verbsModel = key;
  const pinned = status.models.find((model) => model.key === key)?.pinned;
  const fitting = VERBS.filter(([verb]) => verb !== (pinned ? 'pin' : 'unpin'));
  const pop = $('verbs');
  pop.setAttribute('aria-label', `Actions for ${key}`);
  pop.replaceChildren(...fitting.map(([verb, word]) => {
    const item = make('button', { type: 'button', role: 'menuitem' }, word);
    item.onclick = () => { pop.hidePopover(); button.focus(); operate(key, verb, word); };
    return item;
  }));
  const place = button.getBoundingClientRect();
  const high = place.bottom < innerHeight - 260;
  pop.style.setProperty('--r', `${innerWidth - place.right}px`);
  pop.style.setProperty('--y', high ? `${place.bottom + 4}px` : 'auto');
  pop.style.setProperty('--b', high ? 'auto' : `${innerHeight - place.top + 4}px`);
  pop.showPopover();
  pop.firstChild.focus();
}

async function operate(key, verb, word) {
  try {
    await call('POST', `/v1/pool/models/${encodeURIComponent(key)}/${verb}`, { byHand: true });
    announce(`${word}: ${key}.`);
  } catch (problem) {
    complain(sentenceOf(problem));
  }
  refreshSoon();
}

/** Listens to the pool's events for as long as the page is seen; asks now and then while there is no stream. */
let listening = null;
async function listen() {
  if (listening || document.hidden) return;
  const stop = new AbortController();
  listening = stop;
  refreshSoon();
  let wait = 3000;
  while (!stop.signal.aborted) {
    try {
      for await (const { event, data } of eventsOf('/v1/pool/events', stop.signal)) {
        wait = 3000;
        listEvent(event, data);
        refreshSoon();
      }
    } catch (problem) {
      // It listens again when a token is given; every other problem may pass.
      if (problem.status === 401 && listening === stop) listening = null;
      if (problem.status === 401) return;
    }
    if (stop.signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(15000, wait * 1.5);
    if (!stop.signal.aborted) refreshSoon();
  }
}

function listEvent(event, data) {
  const name = data.event ?? event;
  if (FREQUENT.test(name)) return;
  const { t_ms, event: _, ...facts } = data;
  const words = Object.entries(facts)
    .filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value))
    .map(([fact, value]) => (['name', 'model', 'worker', 'message', 'reason'].includes(fact) ? value : `${fact.replaceAll('_', ' ')} ${value}`));
  const time = make('time', {}, new Date().toLocaleTimeString([], { hour12: false }));
  const line = make('span', {}, make('b', {}, sentenceCase(name.replaceAll('_', ' ')).slice(0, -1)), words.length ? ` ${words.slice(0, 5).join(' · ')}` : '');
  $('events').prepend(make('li', {}, time, line));
  while ($('events').children.length > EVENTS_MOST) $('events').lastChild.remove();
  $('events-none').hidden = true;
}

function preparePool() {
  $('pulse').onclick = () => {
    if (connection === 'locked') { declined = false; return refresh(); }
    showTab('pool', true);
  };
  $('verbs').onkeydown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const items = [...$('verbs').children];
    items[(items.indexOf(document.activeElement) + by + items.length) % items.length].focus();
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) { listening?.abort(); listening = null; } else listen();
  });
  setInterval(() => {
    if (document.hidden || !status) return;
    paintPool();
    // Steps and measurements are no events; they are asked for while there is work.
    if (status.queue.length) refreshSoon();
  }, 3000);
}
