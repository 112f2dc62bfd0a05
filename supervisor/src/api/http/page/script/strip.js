// The strip of recent pictures, and the receipt of the selected one.

function paintStrip() {
  $('strip-none').hidden = entries.length > 0;
  keep($('strip'), entries, (entry) => entry.key, makeTile, paintTile);
}

function makeTile(entry) {
  const tile = make('button', { type: 'button', class: 'tile' },
    make('img', { alt: '', hidden: true, draggable: false }),
    make('span', { class: 'ring', 'aria-hidden': 'true' }, make('i')));
  tile.onclick = () => select(entry);
  return make('li', {}, tile);
}

function paintTile(item, entry) {
  const tile = item.firstChild;
  const [image, ring] = tile.children;
  const active = isActive(entry);
  if (entry.thumb && !entry.thumbUrl) entry.thumbUrl = URL.createObjectURL(entry.thumb);
  const url = entry.thumbUrl ?? entry.preview;
  image.hidden = !url;
  if (url && image.src !== url) image.src = url;
  ring.hidden = !active && entry.state !== 'failed';
  tile.style.setProperty('--part', (active && partOf(entry)) || 0);
  ring.firstChild.dataset.text = entry.state === 'failed' ? '!' : entry.state === 'drawing' ? entry.step : entry.position > 0 ? `${entry.position}.` : '…';
  tile.className = `tile${entry.state === 'failed' ? ' bad' : ''}${active ? ' new' : ''}`;
  tile.setAttribute('aria-current', String(entry === selected));
  const seed = entry.receipt ? `, seed ${entry.receipt.seed}` : '';
  const state = active ? activity(entry) : entry.state === 'failed' ? 'Failed' : 'Picture';
  tile.setAttribute('aria-label', `${state}: ${entry.prompt}${seed}`);
}

/** Selects the picture `by` places on, and brings it into view. */
function stepThrough(by) {
  if (!entries.length) return;
  const at = Math.max(0, Math.min(entries.length - 1, entries.indexOf(selected) + by));
  const inStrip = $('strip').contains(document.activeElement);
  select(entries[at]);
  const tile = $('strip').children[at]?.firstChild;
  tile?.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: still.matches ? 'auto' : 'smooth' });
  if (inStrip) tile?.focus({ preventScroll: true });
}

function paintFacts() {
  const entry = selected;
  $('facts').hidden = !entry;
  $('facts-none').hidden = Boolean(entry);
  if (!entry) return;
  const receipt = entry.receipt ?? {};
  say($('facts-prompt'), entry.prompt);
  $('remove').hidden = isActive(entry);
  const rows = [
    ['Model', entry.model], ['Size', entry.size && sizeText(entry.size)], ['Steps', entry.steps || null], ['Seed', receipt.seed],
    ['Guidance', receipt.guidance > 0 ? receipt.guidance : null], ['Negative', receipt.negative],
    ['Sampler', receipt.sampler], ['Computed in', receipt.dtype], ['Weights', receipt.weights?.slice(0, 12)],
    ['Prompt', receipt.prompt_cut ? 'longer than the model reads; its end was cut' : null],
    ['Took', entry.ms ? lasting(entry.ms / 1000) : null], ['Drawn', new Date(entry.created).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })],
    ['Job', entry.job], ['Worker', entry.worker], ['Version', receipt.version],
  ].filter(([, value]) => value != null && value !== '');
  keep($('facts-list'), rows.flatMap(([name, value]) => [['dt', name, name], ['dd', value, name]]),
    ([tag, , name]) => tag + name, ([tag]) => make(tag), (element, [, text]) => say(element, String(text)));
}
