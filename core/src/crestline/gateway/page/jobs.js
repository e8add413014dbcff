// The jobs of one system, live.

import { ApiError, get, path } from './api.js';
import { announce, complain, h, table } from './dom.js';
import { watch } from './events.js';
import { cancelButton, chip, linkTo } from './jobparts.js';
import { timeline } from './timeline.js';
import { duration, hasEnded, kindOf, moment, spans } from './words.js';

const HEADS = ['Job', 'Name', 'State', 'Partition', 'Nodes', 'Submitted', 'Queued for', 'Ran for', 'Action'];
const FILTERS = { all: 'All', pending: 'Waiting', running: 'Running', completed: 'Completed', cancelled: 'Cancelled', failed: 'Failed' };
const PAGE = 100;

const newest = (one, other) => (other.time.submit ?? other.time.start ?? 0) - (one.time.submit ?? one.time.start ?? 0)
  || other.jobId.localeCompare(one.jobId, undefined, { numeric: true });

export async function showJobs({ place, system, signal }) {
  const jobs = new Map();
  const rows = new Map();
  let [told, shown, scheduled] = [false, PAGE, false];

  const search = h('input', { type: 'search', 'aria-label': 'Find by id or name', placeholder: 'Find by id or name', oninput: draw });
  const states = h('select', { 'aria-label': 'State', onchange: draw }, Object.entries(FILTERS).map(([value, text]) => h('option', { value }, text)));
  const since = h('select', { 'aria-label': 'Since', onchange: older },
    [['', 'Last day'], ['3d', 'Three days'], ['7d', 'Seven days']].map(([value, text]) => h('option', { value }, text)));
  const mode = h('span', { class: 'mode' }, 'Connecting');
  const count = h('span', { class: 'quiet' });
  const body = h('tbody');
  const more = h('button', { type: 'button', hidden: true, onclick: () => { shown += PAGE; draw(); } }, 'Show more');
  const trouble = h('div');
  const picture = timeline((job) => linkTo(system.name, job), signal);
  place.append(h('h1', {}, `Jobs on ${system.name}`),
    h('div', { class: 'tools' }, search, states, since, mode, count),
    trouble, picture.element, table(`Jobs on ${system.name}`, HEADS, body), more);

  function draw() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      if (!signal.aborted) render();
    });
  }

  function render() {
    const text = search.value.toLowerCase();
    const wanted = [...jobs.values()].sort(newest).filter((job) => (!text || `${job.jobId} ${job.name}`.toLowerCase().includes(text))
      && (states.value === 'all' || kindOf(job.status) === states.value));
    const visible = wanted.slice(0, shown);
    const keep = new Set(visible.map((job) => job.jobId));
    for (const [id, row] of rows) {
      if (!keep.has(id)) {
        row.element.remove();
        rows.delete(id);
      }
    }
    visible.forEach((job, place) => {
      if (!rows.has(job.jobId)) rows.set(job.jobId, newRow(system.name, job));
      const row = rows.get(job.jobId);
      row.update(job);
      if (body.children[place] !== row.element) body.insertBefore(row.element, body.children[place] ?? null);
    });
    body.querySelector('.none')?.remove();
    if (!visible.length && told) body.append(h('tr', { class: 'none' }, h('td', { colspan: HEADS.length }, jobs.size ? 'No job is like that.' : 'No jobs yet.')));
    more.hidden = wanted.length <= shown;
    count.textContent = told ? `${wanted.length} ${wanted.length === 1 ? 'job' : 'jobs'}` : '';
    picture.draw(visible);
  }

  function note(job) {
    const before = jobs.get(job.jobId);
    if (told && (!before || before.status.state !== job.status.state)) announce(`Job ${job.jobId} ${job.name}: ${job.status.state}`);
    jobs.set(job.jobId, job);
    draw();
  }

  async function older() {
    try {
      const found = await get(`compute/${path(system.name, 'jobs')}`, { time_window: since.value || '24h' }, { signal });
      for (const job of found.jobs ?? []) if (!jobs.has(job.jobId)) jobs.set(job.jobId, job);
      draw();
    } catch (error) {
      complain(trouble, error);
    }
  }

  // The clocks of what waits and runs go on between two events.
  const ticking = setInterval(() => { for (const row of rows.values()) row.tick(); }, 1000);
  signal.addEventListener('abort', () => clearInterval(ticking));

  watch(system.name, null, {
    job: note,
    ready: () => { told = true; draw(); },
    missing: () => {},
    mode: (text, bad = false) => {
      mode.textContent = text;
      mode.classList.toggle('bad', bad);
    },
  }, signal).catch((error) => {
    mode.textContent = error instanceof ApiError && error.status === 403 ? 'Not allowed' : 'Stopped';
    complain(trouble, error);
  });
  return `Jobs on ${system.name}`;
}

function newRow(system, job) {
  const cells = HEADS.map((_, place) => h(place ? 'td' : 'th', place ? {} : { scope: 'row' }));
  const [id, name, state, partition, nodes, submitted, waited, ran, action] = cells;
  [nodes, waited, ran].forEach((cell) => cell.classList.add('number'));
  name.classList.add('name');
  id.append(h('a', { href: linkTo(system, job) }, job.jobId));
  let latest;
  const row = { element: h('tr', {}, cells), update, tick };

  function update(found) {
    if (found === latest) return;
    latest = found;
    name.textContent = found.name;
    state.replaceChildren(chip(found));
    state.title = found.status.stateReason ?? '';
    partition.textContent = found.partition;
    nodes.textContent = String(found.allocationNodes ?? '');
    submitted.textContent = moment(found.time.submit);
    if (hasEnded(found)) action.replaceChildren();
    else if (!action.hasChildNodes()) action.append(cancelButton(system, found));
    times();
  }

  function tick() {
    if (!hasEnded(latest)) times();
  }

  function times() {
    const found = spans(latest);
    waited.textContent = duration(found.waited);
    ran.textContent = duration(found.ran);
  }
  return row;
}
