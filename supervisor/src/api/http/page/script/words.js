// Numbers and times as people read them.

const plural = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;

function sentenceCase(text) {
  const trimmed = String(text).trim();
  const whole = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

function memoryText(megabytes) {
  if (megabytes == null) return 'unknown';
  return megabytes >= 10240 ? `${(megabytes / 1024).toFixed(0)} GB`
    : megabytes >= 1024 ? `${(megabytes / 1024).toFixed(1)} GB` : `${megabytes} MB`;
}

function lasting(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const etaText = (seconds) => (seconds == null || seconds < 0.5 ? '' : `about ${seconds < 10 ? `${Math.ceil(seconds)} s` : lasting(seconds)} left`);

function sizeText(size) {
  return /^\d+x\d+$/.test(size) ? size.replace('x', ' × ') : 'Default';
}

/** Width and height of `WxH`, or nothing. */
function sides(size) {
  const match = /^(\d+)x(\d+)$/.exec(size ?? '');
  return match && [Number(match[1]), Number(match[2])];
}
