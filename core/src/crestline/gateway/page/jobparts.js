// What the list of jobs and the page of one have in common.

import { path, send } from './api.js';
import { act, announce, ask, h } from './dom.js';
import { kindOf, MARKS } from './words.js';

/** A state as it is shown: a mark, the scheduler's word, a colour. */
export function chip(job) {
  const kind = kindOf(job.status);
  return h('span', { class: `state ${kind}` }, `${MARKS[kind]} ${job.status.state}`);
}

export const linkTo = (system, job) => `#/jobs/${encodeURIComponent(system)}/${encodeURIComponent(job.jobId)}`;

/** Cancels a job after the user has confirmed it. */
export function cancelButton(system, job) {
  const button = h('button', { type: 'button', 'aria-label': `Cancel job ${job.jobId}` }, 'Cancel');
  button.addEventListener('click', () => act(button, async () => {
    if (!await ask(`Cancel job ${job.jobId}?`, h('p', {}, job.name), 'Cancel the job', { danger: true })) return;
    await send(`compute/${path(system, 'jobs', job.jobId)}`, { method: 'DELETE' });
    announce(`Job ${job.jobId} is being cancelled.`);
  }));
  return button;
}
