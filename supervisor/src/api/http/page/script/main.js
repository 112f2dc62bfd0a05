// The page: tabs, keys, and the beginning of everything.

const TABS = ['pool', 'picture', 'events'];

function showTab(name, focus = false) {
  for (const tab of TABS) {
    const chosenTab = tab === name;
    $(`tab-${tab}`).setAttribute('aria-selected', String(chosenTab));
    $(`tab-${tab}`).tabIndex = chosenTab ? 0 : -1;
    $(`pane-${tab}`).hidden = !chosenTab;
  }
  if (focus) { $(`tab-${name}`).focus(); $(`tab-${name}`).scrollIntoView({ block: 'nearest' }); }
}

function prepareTabs() {
  for (const [at, tab] of TABS.entries()) {
    $(`tab-${tab}`).onclick = () => showTab(tab);
    $(`tab-${tab}`).onkeydown = (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) { event.preventDefault(); event.stopPropagation(); showTab(TABS[(at + by + TABS.length) % TABS.length], true); }
    };
  }
}

const KEYS = {
  '/': () => $('prompt').focus(),
  '?': () => $('keys').showModal(),
  ArrowLeft: () => stepThrough(-1),
  ArrowRight: () => stepThrough(1),
  ArrowUp: () => stepThrough(-1),
  ArrowDown: () => stepThrough(1),
  Delete: () => selected && (isActive(selected) ? cancel(selected.job) : forget(selected)),
  s: () => selected && useSeed(selected),
  r: () => selected && useSettings(selected),
  f: () => enlarge(),
  p: () => showTab('pool', true),
};

function prepareKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector('dialog[open], :popover-open') || event.target.closest('input, textarea, select')) return;
    const inStrip = event.target.closest('.strip');
    if (['ArrowUp', 'ArrowDown'].includes(event.key) && !inStrip) return;
    const deed = KEYS[event.key];
    if (deed) { event.preventDefault(); deed(); }
  });
  $('show-keys').onclick = () => $('keys').showModal();
  $('keys-close').onclick = () => $('keys').close();
}

function prepareFacts() {
  $('copy').onclick = async () => {
    try { await navigator.clipboard.writeText(selected.prompt); announce('Copied.'); } catch { $('prompt').value = selected.prompt; $('prompt').focus(); }
  };
  $('remove').onclick = () => selected && forget(selected);
}

findToken();
prepareStage();
prepareComposer();
preparePool();
prepareTabs();
prepareKeys();
prepareFacts();
paintComposer();
paintStage();
comeBack().then(listen);
