// One job: what it is, what it says, and its end.

import { get, path } from './api.js';
import { announce, complain, h } from './dom.js';
import { look, watch } from './events.js';
import { cancelButton, chip, linkTo } from './jobparts.js';
import { follow } from './log.js';
import { notifyEnd, notifySwitch } from './notify.js';
import { again } from './submit.js';
import { usageOf } from './usage.js';
import { duration, hasEnded, moment, spans } from './words.js';

export async function showJob({ place, system, rest: [id], settings, signal }) {
  const parts = new Map();
  const first = await look(system.name, id, signal).catch((error) => {
    if (error.status !== 404) throw error;
    return [];
  });
  if (!first.length) {
    const message = `${system.name} has no job ${id}, or its record has expired. Check the id, or look for the job in the list.`;
    throw Object.assign(new Error(message), { title: 'Job not found' });
  }
  const mode = h('span', { class: 'mode' });
  const trouble = h('div');
  place.append(h('h1', {}, `Job ${id} on ${system.name}`), h('div', { class: 'tools' }, mode, notifySwitch()), trouble);
  for (const job of first) note(job);

  function note(job) {
    if (!parts.has(job.jobId)) {
      const part = onePart(system, job, parts.size === 0, settings, signal);
      parts.set(job.jobId, part);
      place.append(part.element);
    }
    parts.get(job.jobId).update(job);
  }

  const ticking = setInterval(() => { for (const part of parts.values()) part.tick(); }, 1000);
  signal.addEventListener('abort', () => clearInterval(ticking));
  if (first.every(hasEnded)) return `Job ${id}`;
  watch(system.name, [id], {
    job: note,
    ready: () => {},
    missing: () => look(system.name, id, signal).then((jobs) => jobs.forEach(note)).catch((error) => complain(trouble, error)),
    mode: (text, bad = false) => {
      mode.textContent = text;
      mode.classList.toggle('bad', bad);
    },
  }, signal).catch((error) => complain(trouble, error));
  return `Job ${id}`;
}

/** A job, or an element of an array. */
function onePart(system, job, open, settings, signal) {
  let latest = job;
  let used = {};
  const state = h('span');
  const facts = h('dl', { class: 'facts' });
  const actions = h('div', { class: 'actions' });
  const logs = h('div');
  const summary = h('summary', {}, h('strong', {}, `${job.jobId} `), h('span', { class: 'name' }, job.name), ' ', state);
  const element = h('details', { class: 'card job', open }, summary, facts, actions, logs);
  element.addEventListener('toggle', () => { if (element.open) showLogs(); });
  let begun = false;

  function update(found) {
    if (latest !== found && latest.status.state !== found.status.state) announce(`Job ${found.jobId}: ${found.status.state}`);
    if (latest !== found) notifyEnd(latest, found, linkTo(system.name, found));
    const ended = hasEnded(found) && !hasEnded(latest);
    latest = found;
    if (ended && begun) showUsage();
    state.replaceChildren(chip(found));
    if (hasEnded(found)) actions.querySelector('.cancel')?.remove();
    else if (!actions.querySelector('.cancel')) {
      const button = cancelButton(system.name, found);
      button.classList.add('cancel');
      actions.prepend(button);
    }
    tick(true);
  }

  function tick(always = false) {
    if (!always && hasEnded(latest)) return;
    const { waited, ran } = spans(latest);
    const { status, time } = latest;
    const rows = {
      Reason: status.stateReason, 'Exit code': hasEnded(latest) ? status.exitCode : null, Signal: status.interruptSignal || null,
      Partition: latest.partition, Account: latest.account, User: latest.user, Nodes: latest.nodes || latest.allocationNodes,
      Submitted: moment(time.submit), Started: moment(time.start), Ended: moment(hasEnded(latest) ? time.end : null),
      'Queued for': duration(waited), 'Ran for': duration(ran), 'Time limit': time.limit ? duration(time.limit) : null, ...used,
    };
    const known = Object.entries(rows).filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== 'None');
    const texts = known.flat().map(String);
    const shown = [...facts.querySelectorAll('dt, dd')].map((each) => each.textContent);
    if (texts.length !== shown.length) facts.replaceChildren(...known.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, String(value)))));
    else [...facts.querySelectorAll('dt, dd')].forEach((each, at) => { if (shown[at] !== texts[at]) each.textContent = texts[at]; });
  }

  async function showUsage() {
    if (!latest.time.start) return;
    used = await usageOf(system.name, job.jobId, signal).catch(() => used); // another user's job, or an outage
    if (!signal.aborted) tick(true);
  }

  async function showLogs() {
    if (begun) return;
    begun = true;
    showUsage();
    try {
      const { jobs } = await get(`compute/${path(system.name, 'jobs', job.jobId, 'metadata')}`, {}, { signal });
      const told = jobs?.find((each) => each.jobId === job.jobId) ?? jobs?.[0] ?? {};
      if (job.workingDirectory) actions.append(h('a', { href: `#/files/${path(system.name)}${job.workingDirectory.split('/').map(encodeURIComponent).join('/')}` }, 'Working directory'));
      if (told.script) {
        const given = { script: told.script, name: job.name, workingDirectory: job.workingDirectory, partition: job.partition };
        actions.append(h('a', { href: `#/submit/${path(system.name)}`, onclick: () => again(given) }, 'Submit again'));
        logs.append(h('details', { class: 'script' }, h('summary', {}, 'Script'), h('pre', { tabindex: 0, 'aria-label': 'Script' }, told.script)));
      }
      const outputs = [['Output', told.standardOutput], ['Errors', told.standardError]]
        .filter(([, file], at, all) => file && file !== '/dev/null' && (at === 0 || file !== all[0][1]));
      for (const [title, file] of outputs) {
        const pane = h('section', { class: 'log', 'aria-label': title });
        logs.append(pane);
        follow(pane, { title, system, file, ended: () => hasEnded(latest), settings, signal });
      }
    } catch (error) {
      begun = false;
      complain(logs, error);
    }
  }
  if (open) showLogs();
  return { element, update, tick };
}
