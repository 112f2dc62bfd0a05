// The server: calls with a token where one is needed, its errors in its own words, and event streams.

/** An answer that is an error. */
class Refusal extends Error {
  constructor(status, { message, param } = {}, retryAfter = null) {
    super(message || `The server answers ${status}`);
    this.status = status;
    this.param = param ?? null;
    this.retryAfter = retryAfter;
  }
}

const TOKEN = 'imagepool.token';
let token = null;
let asking = null;
let declined = false;

/** Reads a stored value; browsers may forbid storage. */
function stored(storage, name) {
  try { return window[storage].getItem(name); } catch { return null; }
}
function store(storage, name, value) {
  try {
    if (value == null) window[storage].removeItem(name);
    else window[storage].setItem(name, value);
  } catch { /* The page works without storage, for as long as it is open. */ }
}

/** Takes the token out of the address, so that it is neither shown nor copied with it. */
function findToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get('token');
  if (given) {
    store('sessionStorage', TOKEN, given);
    fragment.delete('token');
    const rest = fragment.toString();
    history.replaceState(null, '', location.pathname + location.search + (rest && `#${rest}`));
  }
  token = given || stored('sessionStorage', TOKEN) || stored('localStorage', TOKEN);
}

/** Shows the dialog for the token; every caller that waits shares it. */
function askForToken() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = $('ask');
    const finish = (given) => {
      dialog.onclose = dialog.oncancel = null;
      dialog.close();
      asking = null;
      declined = !given;
      if (!given) return reject(new Refusal(401, { message: 'No token was given' }));
      token = given;
      store('sessionStorage', TOKEN, given);
      store('localStorage', TOKEN, $('ask-keep').checked ? given : null);
      resolve();
      listen();
    };
    say($('ask-why'), token ? 'That token is not valid here.' : 'Its operator can give you one.');
    $('ask-token').value = '';
    $('ask-form').onsubmit = (event) => { event.preventDefault(); finish($('ask-token').value.trim()); };
    $('ask-not').onclick = () => finish(null);
    dialog.oncancel = () => finish(null);
    // The event comes late: it may be of an earlier dialog.
    dialog.onclose = () => { if (!dialog.open) finish(null); };
    dialog.showModal();
    $('ask-token').focus();
  });
  return asking;
}

/**
 * Calls the server and returns a good response. `byHand` says that a person waits for it: only then is the token
 * asked for again after it was declined.
 */
async function call(method, path, { body, signal, byHand = false } = {}) {
  for (;;) {
    const sent = token;
    const headers = {};
    if (sent) headers.Authorization = `Bearer ${sent}`;
    if (body) headers['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(path, { method, headers, body, signal, cache: 'no-store' });
    } catch (problem) {
      if (signal?.aborted) throw problem;
      throw new Refusal(0, { message: 'The server does not answer. Is imagepool running?' });
    }
    if (response.ok) return response;
    const refusal = await refusalOf(response);
    if (response.status !== 401) throw refusal;
    if (sent !== token) continue;
    if (declined && !byHand) throw refusal;
    await askForToken();
  }
}

async function refusalOf(response) {
  const answer = await response.json().catch(() => ({}));
  return new Refusal(response.status, answer.error, response.headers.get('Retry-After'));
}

/** What a person reads about an error. */
function sentenceOf(problem) {
  const wait = Number(problem.retryAfter);
  const later = wait > 0 ? ` Try again in ${lasting(wait)}.` : '';
  return sentenceCase(problem.message) + later;
}

/** The events of a stream, as `{event, data}`. */
async function* eventsOf(path, signal) {
  const response = await call('GET', path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll('\r\n', '\n').split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const found = { event: 'message', data: '' };
      for (const line of block.split('\n')) {
        const [, name, text] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name === 'event') found.event = text;
        if (name === 'data') found.data += text;
      }
      if (found.data || found.event !== 'message') yield { event: found.event, data: parsed(found.data) };
    }
  }
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return {}; }
}
