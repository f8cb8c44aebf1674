// How many pixels are how bright, of red, green and blue, and in words.

const COLOURS = ["#e5484d", "#30a46c", "#3e8ef7"];
const SAMPLES = 100_000;

/** RGBA -> counts of 256 levels for three channels. */
function counted(data) {
  const counts = [0, 1, 2].map(() => new Uint32Array(256));
  const step = 4 * Math.max(1, Math.floor(data.length / 4 / SAMPLES));
  for (let i = 0; i < data.length; i += step) {
    for (let channel = 0; channel < 3; channel++) counts[channel][data[i + channel]]++;
  }
  return counts;
}

/** Draw it, and say it to those who do not see it. */
export function histogram(canvas, data) {
  const counts = counted(data);
  const [width, height] = [canvas.width, canvas.height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  const bins = counts.map((channel) => {
    return Array.from({ length: 64 }, (_, i) => Math.sqrt(channel.slice(4 * i, 4 * i + 4).reduce((a, b) => a + b)));
  });
  const most = Math.max(1, ...bins.flat());
  context.globalAlpha = 0.55;
  for (const [channel, values] of bins.entries()) {
    context.fillStyle = COLOURS[channel];
    context.beginPath();
    context.moveTo(0, height);
    for (const [i, value] of values.entries()) {
      const y = height - (value / most) * (height - 2);
      context.lineTo((i * width) / 64, y);
      context.lineTo(((i + 1) * width) / 64, y);
    }
    context.lineTo(width, height);
    context.fill();
  }
  context.globalAlpha = 1;
  const total = 3 * counts[0].reduce((a, b) => a + b);
  const sum = counts.flatMap((channel) => [...channel]).reduce((a, count, i) => a + count * (i % 256), 0);
  const white = counts.reduce((a, channel) => a + channel[255], 0);
  const mean = Math.round((100 * sum) / (255 * total));
  const words = `mean ${mean}\u00a0%, white ${Math.round((100 * white) / total)}\u00a0%`;
  canvas.setAttribute("aria-label", `Histogram: ${words}`);
  canvas.parentElement.querySelector(".words").textContent = words;
}
