// Rename, copy and fetch whole directories.

import { ApiError, get, path, pause, send } from './api.js';
import { announce, ask, field, h } from './dom.js';

const operations = (system) => `filesystem/${path(system.name)}/ops`;

/** Wait until a transfer has ended; an object store, for example, has to be filled first. */
export async function ended(system, id, text) {
  for (;;) {
    const [job] = (await get(`compute/${path(system.name, 'jobs', id)}`)).jobs;
    if (job.status.state === 'COMPLETED') return;
    if (!['PENDING', 'RUNNING'].includes(job.status.state)) throw new ApiError(0, job.status.stateReason ?? `The transfer is ${job.status.state}.`);
    announce(text);
    await pause(500);
  }
}

const exists = (system, file) => get(`${operations(system)}/stat`, { path: file }).then(() => true, (error) => {
  if (error.status === 404) return false;
  throw error;
});

/** Move or copy (`mv` or `cp`) an entry to a path that the user is asked for; false if they thought better of it. */
export async function relocate(system, directory, entry, verb) {
  const title = verb === 'mv' ? 'Rename' : 'Copy';
  const input = h('input', { name: 'target', required: true, value: entry.name, spellcheck: 'false', autocapitalize: 'none' });
  const answer = await ask(`${title} ${entry.name}`, field('New name or path', input, 'A path that begins with / leads to another directory.'), title);
  const given = answer?.get('target');
  if (!given || given === entry.name) return false;
  const target = given.startsWith('/') ? given : `${directory}/${given}`;
  if (await exists(system, target)) throw new Error(`${target} exists. Choose another name, or delete it first.`);
  const json = { path: `${directory}/${entry.name}`, targetPath: target };
  const { transferJob } = await (await send(`filesystem/${path(system.name)}/transfer/${verb}`, { method: 'POST', json })).json();
  await ended(system, transferJob.jobId, `${title} of ${entry.name} is under way.`);
  announce(`${verb === 'mv' ? 'Renamed' : 'Copied'} ${entry.name} to ${given}.`);
  return true;
}

/** A directory as a tar archive. */
export async function archive(system, directory) {
  announce('The archive is being fetched.');
  return (await send(`${operations(system)}/tar`, { query: { path: directory } })).blob();
}
