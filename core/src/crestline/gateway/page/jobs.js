// The jobs of one system, live.

import { ApiError, get, path, send } from './api.js';
import { act, announce, ask, complain, h, table } from './dom.js';
import { watch } from './events.js';
import { arrayOf, newRow } from './jobrows.js';
import { linkTo } from './jobparts.js';
import { notifyEnd, notifySwitch } from './notify.js';
import { timeline } from './timeline.js';
import { hasEnded, kindOf, spans } from './words.js';

const COLUMNS = {
  job: ['Job', (job) => job.jobId], name: ['Name', (job) => job.name], state: ['State', (job) => job.status.state],
  partition: ['Partition', (job) => job.partition], nodes: ['Nodes', (job) => job.allocationNodes],
  submitted: ['Submitted', (job) => job.time.submit ?? job.time.start ?? 0],
  waited: ['Queued for', (job) => spans(job).waited], ran: ['Ran for', (job) => spans(job).ran],
};
const FILTERS = { all: 'All', pending: 'Waiting', running: 'Running', completed: 'Completed', cancelled: 'Cancelled', failed: 'Failed' };
const SINCE = { '': 'Last day', '3d': 'Three days', '7d': 'Seven days' };
const NEWEST = '-submitted';
const PAGE = 100;
const { compare } = new Intl.Collator(undefined, { numeric: true });

/** Jobs in the order of a column; `-` before its name reverses it. What has no value comes last. */
function sorted(jobs, order) {
  const sign = order.startsWith('-') ? -1 : 1;
  const [, value] = COLUMNS[order.replace('-', '')];
  const keyed = jobs.map((job) => [value(job) ?? null, job]);
  keyed.sort(([one, a], [other, b]) => (one === null) - (other === null)
    || sign * (typeof one === 'number' ? one - other : compare(one, other)) || compare(b.jobId, a.jobId));
  return keyed.map(([, job]) => job);
}

/** Rows of the table: a job each, or an array of several tasks. */
function folded(jobs, open) {
  const items = new Map();
  for (const job of jobs) {
    const array = arrayOf(job.jobId);
    const key = array === job.jobId || open.has(array) ? job.jobId : array;
    if (items.has(key)) items.get(key).push(job);
    else items.set(key, [job]);
  }
  const leads = new Set(); // open arrays whose first task has been met
  return [...items].map(([key, found]) => {
    const array = arrayOf(found[0].jobId);
    if (found.length > 1) return { key: `array ${key}`, jobs: found, fold: 'closed' };
    const fold = open.has(array) && !leads.has(array) ? 'open' : '';
    leads.add(array);
    return { key: found[0].jobId, jobs: found, fold };
  });
}

export async function showJobs({ place, system, query, signal }) {
  const jobs = new Map();
  const rows = new Map();
  const open = new Set(); // arrays whose tasks are shown
  const chosen = new Map(); // rows to be cancelled, and their jobs
  let [told, shown, scheduled] = [false, PAGE, false];
  let order = Object.hasOwn(COLUMNS, (query.get('sort') ?? '').replace('-', '')) ? query.get('sort') : NEWEST;

  const options = (words, value) => Object.entries(words).map(([name, text]) => h('option', { value: name, selected: name === value }, text));
  const search = h('input', { type: 'search', 'aria-label': 'Find by id or name', placeholder: 'Find by id or name', value: query.get('find') ?? '', oninput: filter });
  const states = h('select', { 'aria-label': 'State', onchange: filter }, options(FILTERS, query.get('state')));
  const since = h('select', { 'aria-label': 'Since', onchange: () => { filter(); older(); } }, options(SINCE, query.get('since')));
  const mode = h('span', { class: 'mode' }, 'Connecting');
  const count = h('span', { class: 'quiet' });
  const cancel = h('button', { type: 'button', class: 'danger', hidden: true, onclick: () => act(cancel, cancelChosen, trouble) });
  const body = h('tbody');
  const more = h('button', { type: 'button', hidden: true, onclick: () => { shown += PAGE; draw(); } }, 'Show more');
  const trouble = h('div');
  const picture = timeline((job) => linkTo(system.name, job), signal);
  const sorters = Object.entries(COLUMNS).map(([name, [text]]) => h('button', { type: 'button', class: 'sort', onclick: () => sort(name) }, text));
  const all = h('input', { type: 'checkbox', 'aria-label': 'Choose all jobs shown', onchange: () => chooseAll(all.checked) });
  const heads = [all, ...sorters, 'Action'];
  place.append(h('h1', {}, `Jobs on ${system.name}`),
    h('div', { class: 'tools' }, search, states, since, mode, count, cancel, notifySwitch()),
    trouble, picture.element, table(`Jobs on ${system.name}`, heads, body), more);

  function sort(name) {
    order = order === name ? `-${name}` : name;
    filter();
  }

  /** Filters and order stay in the address, so that it can be kept, shared and gone back to. */
  function filter() {
    const told = { find: search.value, state: states.value === 'all' ? '' : states.value, since: since.value, sort: order === NEWEST ? '' : order };
    const words = new URLSearchParams(Object.entries(told).filter(([, value]) => value)).toString();
    history.replaceState(null, '', `#/jobs/${path(system.name)}${words && `?${words}`}`);
    draw();
  }

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
    const wanted = sorted([...jobs.values()].filter((job) => (!text || `${job.jobId} ${job.name}`.toLowerCase().includes(text))
      && (states.value === 'all' || kindOf(job.status) === states.value)), order);
    const items = folded(wanted, open);
    const visible = items.slice(0, shown);
    const keep = new Set(visible.map((item) => item.key));
    for (const [key, row] of rows) {
      if (!keep.has(key)) {
        row.element.remove();
        rows.delete(key);
        chosen.delete(key);
      }
    }
    visible.forEach((item, place) => {
      if (!rows.has(item.key)) rows.set(item.key, newRow(system.name, item, { unfold, choose }));
      const row = rows.get(item.key);
      row.update(item);
      if (chosen.has(item.key)) choose(item.key, item.jobs.every(hasEnded) ? null : item.jobs);
      if (body.children[place] !== row.element) body.insertBefore(row.element, body.children[place] ?? null);
    });
    body.querySelector('.none')?.remove();
    if (!visible.length) body.append(h('tr', { class: 'none' }, h('td', { colspan: heads.length }, nothing())));
    more.hidden = items.length <= shown;
    count.textContent = told ? `${wanted.length} ${wanted.length === 1 ? 'job' : 'jobs'}` : '';
    const [column, direction] = [Object.keys(COLUMNS).indexOf(order.replace('-', '')), order.startsWith('-') ? 'descending' : 'ascending'];
    sorters.forEach((each, at) => each.parentElement.setAttribute('aria-sort', at === column ? direction : 'none'));
    drawCancel();
    picture.draw(visible.flatMap((item) => item.jobs));
  }

  /** What stands in place of jobs. */
  function nothing() {
    if (!told) return 'Loading';
    if (!jobs.size) return ['No jobs yet. ', h('a', { href: `#/submit/${path(system.name)}` }, 'Submit one')];
    return ['No job is like that. ', h('button', { type: 'button', onclick: showAll }, 'Show all')];
  }

  function showAll() {
    [search.value, states.value] = ['', 'all'];
    filter();
    search.focus();
  }

  function unfold(array) {
    if (!open.delete(array)) open.add(array);
    draw();
  }

  function chooseAll(wanted) {
    for (const row of rows.values()) row.choose(wanted);
  }

  function choose(key, found) {
    if (found) chosen.set(key, found);
    else chosen.delete(key);
    drawCancel();
  }

  function drawCancel() {
    const most = [...rows.values()].filter((row) => row.canBeChosen()).length;
    all.disabled = !most;
    all.checked = most > 0 && chosen.size === most;
    all.indeterminate = chosen.size > 0 && !all.checked;
    cancel.hidden = !chosen.size;
    cancel.textContent = `Cancel ${chosen.size} chosen`;
  }

  /** What has to be named to cancel what was chosen: an array as a whole where all its tasks are meant. */
  function targets() {
    return [...chosen.values()].flatMap((found) => {
      const array = arrayOf(found[0].jobId);
      const tasks = [...jobs.values()].filter((job) => arrayOf(job.jobId) === array);
      return found.length > 1 && found.length === tasks.length ? [array] : found.filter((job) => !hasEnded(job)).map((job) => job.jobId);
    });
  }

  async function cancelChosen() {
    const ids = targets();
    const names = h('p', {}, ids.slice(0, 20).join(', '), ids.length > 20 ? ` and ${ids.length - 20} more` : '');
    if (!await ask(`Cancel ${ids.length} ${ids.length === 1 ? 'job' : 'jobs'}?`, names, 'Cancel the jobs', { danger: true })) return;
    const failures = [];
    for (const id of ids) {
      await send(`compute/${path(system.name, 'jobs', id)}`, { method: 'DELETE' }).catch((error) => failures.push(`${id}: ${error.message}`));
    }
    chooseAll(false);
    if (failures.length) throw new Error(`${failures.length} of ${ids.length} could not be cancelled. ${failures[0]}`);
    announce(`${ids.length} ${ids.length === 1 ? 'job is' : 'jobs are'} being cancelled.`);
  }

  function note(job) {
    const before = jobs.get(job.jobId);
    if (told && (!before || before.status.state !== job.status.state)) announce(`Job ${job.jobId} ${job.name}: ${job.status.state}`);
    notifyEnd(before, job, linkTo(system.name, job));
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
  if (since.value) older();
  draw();

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
    body.querySelector('.none')?.remove();
    complain(trouble, error);
  });
  return `Jobs on ${system.name}`;
}
