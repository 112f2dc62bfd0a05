// The field: slow colours while nothing is drawn, noise while a picture waits to begin.

const FIELD = 48;
const dark = matchMedia('(prefers-color-scheme: dark)');
const still = matchMedia('(prefers-reduced-motion: reduce)');
/** Colours of the field, light and dark: dawn over water. */
const HUES = {
  light: [[250, 240, 226], [214, 232, 224], [247, 222, 205], [222, 226, 240]],
  dark: [[20, 34, 33], [24, 52, 46], [52, 36, 36], [26, 30, 48]],
};
let fieldMood = null;
let fieldTimer = null;

/** A random number around 0, mostly between -1 and 1. */
const bell = () => (Math.random() + Math.random() + Math.random() - 1.5) * 1.4;

function paintField(time) {
  const brush = $('field').getContext('2d');
  const image = brush.createImageData(FIELD, FIELD);
  const [first, second, third, fourth] = dark.matches ? HUES.dark : HUES.light;
  const noise = fieldMood === 'noise' ? (dark.matches ? 22 : 16) : 0;
  for (let y = 0; y < FIELD; y += 1) {
    for (let x = 0; x < FIELD; x += 1) {
      const [u, v] = [x / FIELD, y / FIELD];
      const a = (1 + Math.sin(3.1 * u + 1.7 * v + time * 0.21)) ** 3;
      const b = (1 + Math.sin(2.3 * v - 2.9 * u - time * 0.17 + 1)) ** 3;
      const c = (1 + Math.sin(4.1 * (u - 0.5) * (v - 0.3) + time * 0.13 + 4)) ** 3;
      const d = (1 + Math.cos(2.2 * u + 3.3 * v - time * 0.11 + 2)) ** 3;
      const sum = a + b + c + d;
      const at = 4 * (y * FIELD + x);
      const grain = noise && noise * bell();
      for (let i = 0; i < 3; i += 1) {
        const mixed = (first[i] * a + second[i] * b + third[i] * c + fourth[i] * d) / sum;
        image.data[at + i] = mixed + grain + (noise && noise * 0.4 * bell());
      }
      image.data[at + 3] = 255;
    }
  }
  brush.putImageData(image, 0, 0);
}

/** Sets the mood: `calm`, `noise`, or `rest` if a picture covers the field. */
function setField(mood) {
  if (mood === fieldMood) return;
  fieldMood = mood;
  clearInterval(fieldTimer);
  const began = performance.now();
  const paint = () => paintField(12 + (performance.now() - began) / 1000);
  paint();
  if (mood === 'rest' || still.matches) return;
  // A resting page costs nothing: the colours stand still after a while.
  const frames = mood === 'noise' ? 8 : 12;
  fieldTimer = setInterval(() => {
    if (mood === 'calm' && performance.now() - began > 45000) return clearInterval(fieldTimer);
    if (!document.hidden) paint();
  }, 1000 / frames);
}
