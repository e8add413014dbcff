// A picture of when jobs waited and ran. The table beside it says the same in words.

import { h, s } from './dom.js';
import { duration, endOf, hasEnded, kindOf, moment, now, spans, startOf } from './words.js';

const [ROW, LABEL, MOST, AXIS] = [20, 150, 24, 22];
const STEPS = [5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800];

export function timeline(linkTo, signal) {
  const svg = s('svg', { role: 'img', class: 'timeline' });
  const element = h('figure', { hidden: true }, svg, h('figcaption', {},
    h('span', { class: 'key waiting' }, 'in the queue'), ['running', 'completed', 'failed', 'cancelled'].map((kind) => h('span', { class: `key ${kind}` }, kind))));
  let jobs = [];

  const redraw = () => paint(element, svg, jobs, linkTo);
  const ticking = setInterval(() => { if (jobs.some((job) => !hasEnded(job))) redraw(); }, 2000);
  const resized = new ResizeObserver(redraw);
  resized.observe(element);
  signal.addEventListener('abort', () => {
    clearInterval(ticking);
    resized.disconnect();
  });
  return {
    element,
    draw(found) {
      jobs = found.filter((job) => job.time.submit || job.time.start).slice(0, MOST);
      redraw();
    },
  };
}

function paint(element, svg, jobs, linkTo) {
  element.hidden = !jobs.length;
  if (!jobs.length) return;
  const width = Math.max(320, element.clientWidth);
  const height = jobs.length * ROW + AXIS;
  const from = Math.min(...jobs.map((job) => job.time.submit ?? job.time.start));
  const to = Math.max(from + 10, ...jobs.map((job) => endOf(job) ?? now()));
  const x = (second) => LABEL + ((second - from) / (to - from)) * (width - LABEL - 12);
  const step = STEPS.find((each) => (to - from) / each <= Math.max(3, width / 140)) ?? 7 * 86400;
  const ticks = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
    ticks.push(s('line', { x1: x(tick), x2: x(tick), y1: 0, y2: height - AXIS }));
    if (x(tick) < width - 50) ticks.push(s('text', { x: x(tick), y: height - 6 }, moment(tick)));
  }
  const rows = jobs.map((job, place) => {
    const [submit, start, end] = [job.time.submit ?? startOf(job), startOf(job), endOf(job) ?? now()];
    const y = place * ROW;
    const name = `${job.jobId} ${job.name}`;
    const { waited, ran } = spans(job);
    const bar = (kind, first, last) => s('rect', { class: kind, x: x(first), y: y + 4, width: Math.max(2, x(last) - x(first)), height: ROW - 8, rx: 3 });
    return s('a', { href: linkTo(job), tabindex: -1 },
      s('title', {}, `${name}: ${job.status.state}, queued for ${duration(waited)}, ran for ${duration(ran)}`),
      s('rect', { class: 'row', x: 0, y, width, height: ROW }),
      s('text', { x: 4, y: y + ROW - 6 }, name.length > 21 ? `${name.slice(0, 20)}…` : name),
      bar('waiting', submit, start ?? end), start ? bar(kindOf(job.status), start, end) : '');
  });
  svg.setAttribute('width', width);
  svg.setAttribute('height', height);
  svg.setAttribute('aria-label', `When the ${jobs.length} latest jobs waited and ran; the table has the same in words`);
  svg.replaceChildren(s('g', { class: 'axis' }, ticks), ...rows);
}
