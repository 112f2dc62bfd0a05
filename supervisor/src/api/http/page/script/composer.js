// The composer: what is drawn next.

/** Limits for as long as the server has not named those of the model. */
const UNKNOWN = { size: '1024x1024', steps: null, stepsMost: 1000, multiple: 16, least: 64, most: 2048 };
/** Shapes that are offered: width over height, with the area of the model's own size. */
const SHAPES = [1, 3 / 2, 2 / 3, 16 / 9, 9 / 16];
const IDEAS = {
  small: ['a yellow moon on a blue background', 'a slice of watermelon', 'a red circle left of a blue square on a white background'],
  large: ['a lighthouse at dusk, storm clouds, oil on canvas', 'a cup of tea on a windowsill, rain outside, 35mm', 'paper-cut mountains in morning fog'],
};
const CHOICES = 'imagepool.choices';

let models = [];
let chosen = { model: '', size: '' };
/** Settings of a receipt that have no control of their own. */
let extras = {};

const modelFacts = () => models.find((model) => model.id === chosen.model);

function limits() {
  const facts = modelFacts();
  if (!sides(facts?.default_size)) return { ...UNKNOWN, sizes: [UNKNOWN.size] };
  const limit = {
    size: facts.default_size, steps: facts.default_steps, stepsMost: facts.max_steps,
    multiple: facts.size_multiple, least: facts.min_size, most: facts.max_size,
  };
  return { ...limit, sizes: sizesFor(limit) };
}

/** The model's own size, other shapes of the same area, and smaller squares. */
function sizesFor(limit) {
  const [width, height] = sides(limit.size);
  const near = (side) => Math.round(side / limit.multiple) * limit.multiple;
  const shaped = SHAPES.map((shape) => `${near(Math.sqrt(width * height * shape))}x${near(Math.sqrt((width * height) / shape))}`);
  const smaller = [0.75, 0.5].map((scale) => `${near(width * scale)}x${near(height * scale)}`);
  return [...new Set([limit.size, ...shaped, ...smaller])].filter((size) => fitsLimits(size, limit));
}

/** Takes the list of models, and prefers the one that was chosen before. */
function takeModels(list) {
  models = list;
  const usable = models.filter((model) => model.usable);
  if (!usable.some((model) => model.id === chosen.model)) chosen.model = (usable.find((model) => model.preferred) ?? usable[0])?.id ?? '';
  paintComposer();
}

function paintComposer() {
  const limit = limits();
  if (chosen.size && !limit.sizes.includes(chosen.size) && !fitsLimits(chosen.size, limit)) chosen.size = '';
  say($('model-text'), chosen.model || (models.length ? 'No model can draw' : '…'));
  say($('size-text'), sizeText(chosen.size || limit.size));
  shapeOf($('size-shape'), chosen.size || limit.size);
  $('steps').placeholder = limit.steps ?? 'auto';
  $('steps').max = limit.stepsMost;
  keep($('models'), models, (model) => model.id, makeModelChoice, paintModelChoice);
  keep($('size-list'), limit.sizes, (size) => size, makeSizeChoice, (item, size) => { item.firstChild.checked = size === (chosen.size || limit.size); });
  const [width, height] = sides(chosen.size || limit.size);
  if (document.activeElement !== $('width')) $('width').value = width;
  if (document.activeElement !== $('height')) $('height').value = height;
  for (const id of ['width', 'height']) Object.assign($(id), { min: limit.least, max: limit.most, step: limit.multiple });
  say($('size-rule'), `Multiples of ${limit.multiple}, from ${limit.least} to ${limit.most}.`);
  paintIdeas();
  paintExtras();
}

function fitsLimits(size, limit) {
  return sides(size)?.every((side) => side % limit.multiple === 0 && side >= limit.least && side <= limit.most) ?? false;
}

function shapeOf(element, size) {
  const [width, height] = sides(size) ?? [1, 1];
  const scale = 16 / Math.max(width, height);
  element.style.setProperty('--sw', `${Math.max(7, Math.round(width * scale))}px`);
  element.style.setProperty('--sh', `${Math.max(7, Math.round(height * scale))}px`);
}

function makeModelChoice(model) {
  const input = make('input', { type: 'radio', name: 'model', value: model.id });
  const item = make('label', { class: 'choice' }, input, make('span', { class: 'dot' }), make('span', {}, model.id), make('small'), make('small', { class: 'why' }));
  input.onchange = () => { chosen.model = model.id; chosen.size = ''; remember(); paintComposer(); };
  item.onclick = (event) => { if (event.detail > 0 && event.target === input) setTimeout(() => $('models').hidePopover(), 90); };
  return item;
}

function paintModelChoice(item, model) {
  const [input, dot, , state, why] = item.children;
  input.checked = model.id === chosen.model;
  input.disabled = !model.usable;
  dot.className = `dot ${model.status === 'ready' ? 'live' : model.status === 'broken' ? 'bad' : 'rest'}`;
  say(state, model.status ?? '');
  say(why, model.reason ? sentenceCase(model.reason) : '');
  why.hidden = !model.reason;
}

function makeSizeChoice(size) {
  const input = make('input', { type: 'radio', name: 'size', value: size });
  const shape = make('span', { class: 'shape' });
  shapeOf(shape, size);
  const [width, height] = sides(size);
  const word = width === height ? 'Square' : width > height ? 'Landscape' : 'Portrait';
  const item = make('label', { class: 'choice' }, input, shape, make('span', {}, sizeText(size)), make('small', {}, word));
  input.onchange = () => { chosen.size = size; remember(); paintComposer(); };
  item.onclick = (event) => { if (event.detail > 0 && event.target === input) setTimeout(() => $('sizes').hidePopover(), 90); };
  return item;
}

function paintIdeas() {
  $('ideas').style.visibility = models.length ? 'visible' : 'hidden';
  const ideas = limits().most <= 512 ? IDEAS.small : IDEAS.large;
  $('prompt').placeholder = sentenceCase(ideas[0]).slice(0, -1);
  keep($('ideas'), ideas, (idea) => idea, (idea) => {
    const button = make('button', { type: 'button' }, idea);
    button.onclick = () => { $('prompt').value = idea; submit(); };
    return make('li', {}, button);
  });
}

function paintExtras() {
  const words = Object.entries(extras).map(([name, value]) => `${name.replaceAll('_', ' ').replace(' scale', '')}: ${value}`);
  $('extras').hidden = !words.length;
  if (!words.length) return $('extras').replaceChildren();
  const drop = make('button', { type: 'button', class: 'quiet' }, 'Leave out');
  drop.onclick = () => { extras = {}; paintExtras(); };
  $('extras').replaceChildren(`Also from the receipt: ${words.join(', ')}`, drop);
}

function remember() {
  const choices = { prompt: $('prompt').value, ...chosen, steps: $('steps').value, count: $('count').value };
  store('localStorage', CHOICES, JSON.stringify(choices));
}

function recall() {
  const { prompt = '', model = '', size = '', steps = '', count = '1' } = parsed(stored('localStorage', CHOICES) || '{}');
  chosen = { model, size: sides(size) ? size : '' };
  $('prompt').value = prompt;
  $('steps').value = steps;
  $('count').value = count;
}

const mark = (element, bad) => element.setAttribute('aria-invalid', String(bad));
const controlOf = (param) => ({ prompt: 'prompt', model: 'model', size: 'size', width: 'size', height: 'size', n: 'count', seed: 'seed', steps: 'steps', num_inference_steps: 'steps' })[param];

/** Says what is wrong, marks the control, and goes there. */
function refuse(param, sentence) {
  const control = controlOf(param);
  if (control) { mark($(control), true); $(control).focus(); }
  complain(sentence);
}

const SEED_MOST = 2n ** 64n - 1n;
let sending = false;

async function submit() {
  if (sending) return;
  for (const id of ['prompt', 'model', 'size', 'steps', 'seed', 'count']) mark($(id), false);
  const seed = $('seed').value.trim();
  const count = Number($('count').value || 1);
  if (!$('prompt').value.trim()) return refuse('prompt', 'Describe the picture first.');
  if (seed && !(/^\d+$/.test(seed) && BigInt(seed) <= SEED_MOST)) return refuse('seed', `A seed is a whole number from 0 to ${SEED_MOST}.`);
  if (!(Number.isInteger(count) && count >= 1 && count <= 10)) return refuse('n', 'Draw 1 to 10 pictures at a time.');
  const request = { prompt: $('prompt').value.trim(), size: chosen.size || modelFacts()?.default_size || 'auto', n: count, ...extras };
  if (chosen.model) request.model = chosen.model;
  if ($('steps').value) request.num_inference_steps = Number($('steps').value);
  if (seed) request.seed = BigInt(seed).toString();
  sending = true;
  $('draw').setAttribute('aria-disabled', 'true');
  remember();
  try {
    await draw(request);
  } catch (problem) {
    refuse(problem.param, sentenceOf(problem));
  } finally {
    sending = false;
    $('draw').setAttribute('aria-disabled', 'false');
  }
}

function useSeed(entry) {
  if (!entry.receipt) return;
  $('seed').value = entry.receipt.seed;
  $('seed-clear').hidden = false;
  announce(`Seed ${entry.receipt.seed} is set.`);
}

function useSettings(entry) {
  const { receipt } = entry;
  if (models.some((model) => model.id === entry.model && model.usable)) chosen.model = entry.model;
  chosen.size = sides(entry.size) ? entry.size : '';
  $('prompt').value = entry.prompt;
  $('steps').value = entry.steps || '';
  extras = {};
  if (receipt?.guidance > 0) extras.guidance_scale = receipt.guidance;
  if (receipt?.negative) extras.negative_prompt = receipt.negative;
  useSeed(entry);
  remember();
  paintComposer();
  announce('All settings of this picture are set.');
  $('prompt').focus();
}

/** Opens a popover above its button. */
function placeAbove(pop, button) {
  pop.addEventListener('beforetoggle', (event) => {
    if (event.newState !== 'open') return;
    const { left, top } = button.getBoundingClientRect();
    pop.style.setProperty('--x', `${Math.max(8, Math.min(left, innerWidth - 308))}px`);
    pop.style.setProperty('--b', `${innerHeight - top + 8}px`);
  });
}

function prepareComposer() {
  recall();
  placeAbove($('models'), $('model'));
  placeAbove($('sizes'), $('size'));
  $('composer').onsubmit = (event) => { event.preventDefault(); submit(); };
  $('prompt').onkeydown = (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
  };
  for (const id of ['width', 'height']) {
    $(id).onchange = () => {
      const size = `${$('width').value}x${$('height').value}`;
      if (sides(size)) { chosen.size = size; remember(); paintComposer(); }
    };
  }
  $('seed').oninput = () => { $('seed-clear').hidden = !$('seed').value; };
  $('seed-clear').onclick = () => { $('seed').value = ''; $('seed-clear').hidden = true; $('seed').focus(); };
  if (/Mac|iPhone|iPad/.test(navigator.platform)) say($('draw-key'), '⌘ ⏎');
}
