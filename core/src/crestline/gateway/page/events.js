// Changes of jobs as they happen: the gateway's event stream, read by fetch since EventSource sends no token. Where a proxy
// on the way holds streams back, long polls do.

import { ApiError, get, path, pause, send } from './api.js';
import { isWanted } from './notify.js';

const FIRST = 10000; // milliseconds until something must have come
const SILENCE = 40000; // the gateway says something every 15 s
const isHidden = () => document.hidden && !isWanted();
const POLLED = 300000; // so long polls go on before a stream is tried again

/**
 * Tell of jobs until `signal` aborts. `told.job(job)`, `told.ready()`, `told.missing(ids)`, `told.mode(text)`.
 * A tab that is hidden does not watch, unless the user wants to be notified.
 */
export async function watch(system, ids, told, signal) {
  const jobs = `compute/${path(system)}/jobs`;
  const query = ids ? { ids: ids.join(',') } : {};
  let last;
  let failures = 0;
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) return;
    try {
      const came = await stream(jobs, query, last, { ...told, at: (id) => { last = id; failures = 0; } }, signal);
      if (came) await pause(500, signal);
      else await poll(jobs, query, told, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) throw error;
      failures += 1;
      told.mode(`${error.message} Trying again.`, true);
      await pause(Math.min(1000 * 2 ** failures, 15000), signal);
    }
  }
}

function visible(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (isHidden() && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look, { once: true });
    look();
  });
}

/** Read one stream to its end; false if nothing came through. */
async function stream(jobs, query, last, told, signal) {
  const stop = new AbortController();
  const end = () => { if (signal.aborted || isHidden()) stop.abort(); };
  let came = false;
  let timer = setTimeout(() => stop.abort(), FIRST);
  signal.addEventListener('abort', end);
  document.addEventListener('visibilitychange', end);
  try {
    const headers = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
    const answer = await send(`${jobs}/events`, { query, headers, signal: stop.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return came;
      came = true;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE);
      const blocks = (text + value).split('\n\n');
      text = blocks.pop();
      blocks.forEach((block) => dispatch(block, told));
    }
  } catch (error) {
    if (error.name === 'AbortError' || stop.signal.aborted) return came || signal.aborted || isHidden();
    throw error instanceof ApiError ? error : new Error('The connection was lost.');
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    document.removeEventListener('visibilitychange', end);
  }
}

function dispatch(block, told) {
  const fields = Object.fromEntries(block.split('\n').filter((line) => !line.startsWith(':')).map((line) => {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    return [name, value];
  }));
  if (fields.event === 'job') told.job(JSON.parse(fields.data));
  if (fields.event === 'ready') told.ready();
  if (fields.event === 'missing') told.missing(JSON.parse(fields.data).jobIds);
  if (fields.event === 'outage') told.mode(`The scheduler does not answer: ${JSON.parse(fields.data).message}`, true);
  else if (fields.event) told.mode('Live');
  if (fields.id) told.at(fields.id);
}

async function poll(jobs, query, told, signal) {
  const end = Date.now() + POLLED;
  let tag;
  while (Date.now() < end && !signal.aborted) {
    await visible(signal);
    const headers = tag ? { 'If-None-Match': tag } : {};
    const answer = await send(jobs, { query: { ...query, wait: tag ? 20 : 0 }, headers, signal });
    told.mode('Live, by polling');
    if (answer.status === 304) continue;
    tag = answer.headers.get('ETag');
    const found = (await answer.json()).jobs ?? [];
    found.forEach(told.job);
    told.ready();
    if (!tag) await pause(3000, signal);
  }
}

/** One job as it is now; several entries for an array. */
export const look = async (system, id, signal) => (await get(`compute/${path(system, 'jobs', id)}`, {}, { signal })).jobs ?? [];
