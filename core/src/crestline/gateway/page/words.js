// How states, durations, times and sizes are written.

const STATES = {
  pending: 'PENDING CONFIGURING POWER_UP_NODE REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT H Q T W',
  running: 'RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT UPDATE_DB B E R',
  suspended: 'SUSPENDED STOPPED S U',
  completed: 'COMPLETED',
  cancelled: 'CANCELLED REVOKED',
  failed: 'FAILED BOOT_FAIL DEADLINE LAUNCH_FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED RECONFIG_FAIL TIMEOUT',
};
const KINDS = new Map(Object.entries(STATES).flatMap(([kind, words]) => words.split(' ').map((word) => [word, kind])));

export const MARKS = {
  pending: '…', running: '▶', suspended: '‖', completed: '✓', cancelled: '⊘', failed: '✕', unknown: '?',
};

/** One of MARKS for a scheduler's own word. */
export function kindOf(status) {
  const word = (status.state ?? '').toUpperCase().split(' ')[0].split('+')[0];
  if (word === 'F' || word === 'X') return status.exitCode ? 'failed' : 'completed';
  return KINDS.get(word) ?? 'unknown';
}

export const hasEnded = (job) => ['completed', 'cancelled', 'failed'].includes(kindOf(job.status));

let offset = 0;

/** Learn how far the gateway's clock is from this machine's. */
export function setClock(gatewayTime) {
  const theirs = Date.parse(gatewayTime);
  if (!Number.isNaN(theirs)) offset = theirs - Date.now();
}

/** The gateway's time, in seconds since the epoch. */
export const now = () => (Date.now() + offset) / 1000;

export const startOf = (job) => (job.time.start && (kindOf(job.status) !== 'pending') ? job.time.start : null);
export const endOf = (job) => (hasEnded(job) ? job.time.end : null);

/** Seconds in the queue and seconds of run, up to now; null where the scheduler does not say. */
export function spans(job) {
  const [start, end] = [startOf(job), endOf(job)];
  const submit = job.time.submit ?? null;
  const waited = submit === null ? null : Math.max(0, (start ?? end ?? now()) - submit);
  const ran = start === null ? null : Math.max(0, (end ?? now()) - start);
  return { waited, ran };
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const whole = Math.floor(seconds);
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes) return `${minutes} min ${whole % 60} s`;
  return `${whole} s`;
}

export function moment(seconds) {
  if (!seconds) return '–';
  const date = new Date(seconds * 1000);
  const day = Math.abs(Date.now() - date) < 43200e3 ? {} : { month: 'short', day: 'numeric' };
  return date.toLocaleString(undefined, { ...day, hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
}

export function size(bytes) {
  let [value, unit] = [Number(bytes), 0];
  while (value >= 1024 && unit < 5) [value, unit] = [value / 1024, unit + 1];
  return unit ? `${value.toFixed(1)} ${'KMGTP'[unit - 1]}iB` : `${value} B`;
}
