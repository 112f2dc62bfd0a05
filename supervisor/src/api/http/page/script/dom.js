// Elements: finding, making and updating them. Text enters as text, never as HTML.

const $ = (id) => document.getElementById(id);

/** Makes an element. `facts` are properties; `class`, `data` and `aria-…` go where they belong. */
function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name === 'class') element.className = value;
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name.includes('-') || name === 'role') element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

function icon(name, className = '') {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const use = document.createElementNS(space, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', className);
  svg.append(use);
  return svg;
}

/** Sets a text only if it changes, so that selections and screen readers are left alone. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Keeps the children of `list` in step with `items`: elements stay the same as long as their key does. */
function keep(list, items, key, create, update) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const name = String(key(item));
    const child = old.get(name) ?? create(item);
    old.delete(name);
    child.dataset.key = name;
    if (list.children[at] !== child) list.insertBefore(child, list.children[at] ?? null);
    update?.(child, item);
  });
  for (const child of old.values()) child.remove();
}

/** Tells a screen reader, politely. */
function announce(text) {
  say($('live'), text);
}

/** Shows a sentence that must be read: an error of the server, in the server's words. */
function complain(sentence) {
  const close = make('button', { type: 'button', class: 'icon', 'aria-label': 'Dismiss' }, icon('close'));
  const toast = make('div', { class: 'toast' }, make('p', {}, sentenceCase(sentence)), close);
  close.onclick = () => toast.remove();
  for (const other of [...$('toasts').children].slice(0, -2)) other.remove();
  $('toasts').append(toast);
  setTimeout(() => toast.remove(), 15000);
}

/** Runs a function once per frame, however often it is asked for; hidden pages have no frames. */
function perFrame(paint) {
  let due = false;
  const run = () => { due = false; paint(); };
  return () => {
    if (due) return;
    due = true;
    if (document.hidden) setTimeout(run, 50);
    else requestAnimationFrame(run);
  };
}
