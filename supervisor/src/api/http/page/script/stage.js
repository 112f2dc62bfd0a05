// The stage: the selected picture, large, as it grows.

/** Small pictures are shown at most this much larger than they are. */
const ENLARGED_MOST = 4;
let shown = null;

/** Gives the box the picture's shape at the largest size that fits, before there is a picture: nothing jumps. */
function fitStage() {
  const { clientWidth, clientHeight } = $('room');
  const [width, height] = (selected && (sides(selected.size) ?? selected.shape)) ?? [0, 0];
  const style = $('stage').style;
  if (!selected || !width) {
    const side = Math.min(clientWidth, clientHeight);
    style.setProperty('--w', selected ? `${side}px` : '100%');
    style.setProperty('--h', selected ? `${side}px` : '100%');
    return;
  }
  const least = 320 / Math.max(width, height);
  const scale = Math.min(clientWidth / width, clientHeight / height, Math.max(ENLARGED_MOST, least));
  style.setProperty('--w', `${Math.round(width * scale)}px`);
  style.setProperty('--h', `${Math.round(height * scale)}px`);
}

/** Fades a picture in over the one before. */
async function showShot(url, { blur = 0, quick = false, alt = '' }) {
  shown = url;
  const shot = make('img', { alt, class: quick ? 'quick' : '' });
  shot.src = url;
  try { await shot.decode(); } catch { return; }
  if (shown !== url) return;
  const shots = $('shots');
  shot.style.setProperty('--blur', `${blur + (quick || !shots.children.length ? 0 : 8)}px`);
  shot.style.setProperty('--zoom', blur ? 1.06 : 1.015);
  shots.append(shot);
  $('glow').src = url;
  $('glow').classList.add('on');
  void shot.offsetWidth;
  shot.classList.add('on');
  shot.style.setProperty('--blur', `${blur}px`);
  shot.style.setProperty('--zoom', blur ? 1.05 : 1);
  setTimeout(() => { while (shots.firstChild && shots.firstChild !== shot && shots.contains(shot)) shots.firstChild.remove(); }, 1200);
}

function clearShots() {
  shown = null;
  $('shots').replaceChildren();
  $('glow').classList.remove('on');
}

let stagedKey = null;

function paintStage() {
  const entry = selected;
  const state = !entry ? 'empty' : isActive(entry) ? (entry.state === 'drawing' ? 'drawing' : 'waiting') : entry.state;
  const another = stagedKey !== (entry?.key ?? null);
  stagedKey = entry?.key ?? null;
  $('stage').dataset.state = state;
  $('box').setAttribute('aria-busy', String(Boolean(entry && isActive(entry))));
  fitStage();
  $('hint').hidden = Boolean(entry);
  $('sorry').hidden = state !== 'failed';
  say($('sorry'), (state === 'failed' && entry.sentence) || '');
  setField(state === 'empty' ? 'calm' : entry.preview || !isActive(entry) ? 'rest' : 'noise');
  if (state === 'done') showFinished(entry, another);
  else if (entry?.preview) showPreview(entry, another);
  else clearShots();
  paintUnder(entry, state);
}

function showPreview(entry, another) {
  if (shown === entry.preview) return;
  if (another) clearShots();
  const part = entry.step / Math.max(1, entry.steps);
  showShot(entry.preview, { blur: 3 + 15 * (1 - part) ** 1.5 });
}

async function showFinished(entry, another) {
  const url = await pictureUrl(entry);
  if (entry !== selected || shown === url) return;
  if (!url) { clearShots(); return; }
  showShot(url, { quick: another, alt: entry.prompt });
}

function paintUnder(entry, state) {
  const active = Boolean(entry && isActive(entry));
  const part = active ? partOf(entry) : null;
  $('progress').hidden = !active;
  $('progress').classList.toggle('vague', part == null);
  $('progress').setAttribute('aria-valuemax', entry?.steps || 1);
  $('progress').setAttribute('aria-valuenow', entry?.step ?? 0);
  $('progress').setAttribute('aria-valuetext', active ? activity(entry) : '');
  $('progress-bar').style.setProperty('--part', part ?? 0);
  say($('caption'), active ? activity(entry) : state === 'empty' ? '' : entry.prompt);
  $('caption').title = entry && !active ? entry.prompt : '';
  say($('caption-aside'), active ? etaText(entry.eta) : entry?.ms ? lasting(entry.ms / 1000) : '');
  $('cancel').hidden = !active;
  for (const id of ['use-seed', 'enlarge', 'save']) $(id).hidden = state !== 'done';
  $('use-seed').hidden = !entry?.receipt;
  $('use-all').hidden = !entry || active;
  if (state === 'done' && entry.url) {
    $('save').href = entry.url;
    $('save').download = `imagepool-${entry.job}.png`;
  }
}

/** How far a picture is, or its model on the way to the memory; nothing if that is not known. */
function partOf(entry) {
  if (entry.state === 'drawing') return entry.steps ? entry.step / entry.steps : null;
  return entry.state === 'loading' ? entry.part ?? null : null;
}

/** What happens to a picture that is not finished. */
function activity(entry) {
  if (entry.state === 'drawing') {
    const again = entry.attempt > 1 ? `, attempt ${entry.attempt}` : '';
    return entry.step >= entry.steps ? 'Finishing' : `Step ${entry.step} of ${entry.steps}${again}`;
  }
  if (entry.fetching) {
    const [here, all] = [entry.fetching.here_bytes, entry.fetching.all_bytes].map((bytes) => memoryText(Math.round(bytes / 2 ** 20)));
    return `Fetching ${entry.model || 'the model'}: ${here} of ${all}`;
  }
  if (entry.state === 'loading') return `${entry.model || 'The model'} is loading`;
  if (entry.position > 0) return `Position ${entry.position} in the queue`;
  return 'Starting';
}

async function enlarge() {
  const url = selected?.state === 'done' && await pictureUrl(selected);
  if (!url) return;
  $('light-img').src = url;
  $('light-img').alt = selected.prompt;
  $('light').showModal();
}

function prepareStage() {
  new ResizeObserver(fitStage).observe($('room'));
  dark.addEventListener('change', () => {
    const mood = fieldMood;
    fieldMood = null;
    setField(mood);
  });
  $('box').onclick = (event) => { if (!event.target.closest('button')) enlarge(); };
  $('enlarge').onclick = enlarge;
  $('light').onclick = () => $('light').close();
  $('cancel').onclick = () => selected && cancel(selected.job);
  $('use-seed').onclick = () => selected && useSeed(selected);
  $('use-all').onclick = () => selected && useSettings(selected);
}
