// Rows of the list of jobs: a job, or an array whose tasks are folded into one.

import { h } from './dom.js';
import { cancelButton, chip, linkTo } from './jobparts.js';
import { duration, hasEnded, kindOf, MARKS, moment, spans } from './words.js';

/** The id of the whole array that a task belongs to (Slurm's `12_3`, PBS's `12[3].host`); else the id itself. */
export const arrayOf = (id) => (id.includes('_') ? id.split('_')[0] : id.replace(/\[[^\]]*\]/, '[]'));

/** How many of the jobs are in which state. */
function counts(jobs) {
  const found = Map.groupBy(jobs, (job) => kindOf(job.status));
  return [...found].map(([kind, some]) => h('span', { class: `state ${kind}` }, `${MARKS[kind]} ${some.length} ${kind}`));
}

/** `told.unfold(array)` and `told.choose(key, jobs)` hear of what the user does. */
export function newRow(system, item, told) {
  const isArray = item.jobs.length > 1;
  const array = arrayOf(item.jobs[0].jobId);
  const named = isArray ? { jobId: array, name: item.jobs[0].name } : item.jobs[0];
  const cells = Array.from({ length: 10 }, (_, place) => h(place === 1 ? 'th' : 'td', place === 1 ? { scope: 'row' } : {}));
  const [choice, id, name, state, partition, nodes, submitted, waited, ran, action] = cells;
  [nodes, waited, ran].forEach((cell) => cell.classList.add('number'));
  name.classList.add('name');
  const box = h('input', { type: 'checkbox', 'aria-label': `Choose job ${named.jobId}`, onchange: () => told.choose(item.key, box.checked ? jobs : null) });
  const fold = h('button', { type: 'button', class: 'fold', onclick: () => told.unfold(array) });
  id.append(h('a', { href: linkTo(system, named) }, named.jobId));
  let jobs = [];
  const canBeChosen = () => !jobs.every(hasEnded);
  const row = { element: h('tr', {}, cells), update, tick, choose, canBeChosen };

  function update({ jobs: found, fold: how }) {
    showFold(found, how);
    if (found.length === jobs.length && found.every((job, at) => job === jobs[at])) return;
    jobs = found;
    const [first] = found;
    name.textContent = first.name;
    state.replaceChildren(...(isArray ? counts(found) : [chip(first)]));
    state.title = isArray ? '' : first.status.stateReason ?? '';
    partition.textContent = first.partition;
    nodes.textContent = isArray ? '' : String(first.allocationNodes ?? '');
    submitted.textContent = moment(first.time.submit);
    if (found.every(hasEnded)) [action, choice].forEach((cell) => cell.replaceChildren());
    else if (!action.hasChildNodes()) {
      action.append(cancelButton(system, named));
      choice.append(box);
    }
    times();
  }

  /** A folded array opens; the first of its tasks folds it again. */
  function showFold(found, how) {
    if (!how) {
      fold.remove();
      return;
    }
    fold.textContent = isArray ? `▸ ${found.length} tasks` : '▾ fold';
    fold.setAttribute('aria-expanded', String(!isArray));
    fold.setAttribute('aria-label', isArray ? `Show the ${found.length} tasks of ${array}` : `Fold the tasks of ${array}`);
    if (!fold.isConnected) id.append(' ', fold);
  }

  function tick() {
    if (!jobs.every(hasEnded)) times();
  }

  function times() {
    if (isArray) return;
    const found = spans(jobs[0]);
    waited.textContent = duration(found.waited);
    ran.textContent = duration(found.ran);
  }

  function choose(wanted) {
    box.checked = wanted && canBeChosen();
    told.choose(item.key, box.checked ? jobs : null);
  }
  return row;
}
