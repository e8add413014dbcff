// What a job uses of what it holds.

import { get, path } from './api.js';
import { size } from './words.js';

const percent = (share) => `${Math.round(share * 100)} %`;

/** Rows about the use of a job; none where the scheduler does not tell. */
export async function usageOf(system, id, signal) {
  const { usage } = await get(`compute/${path(system, 'jobs', id, 'usage')}`, {}, { signal });
  const used = usage?.find((each) => each.jobId === id);
  if (!used) return {};
  const { elapsed, cpus, cpuSeconds, memory, memoryLimit, gpus, gpuUse } = used;
  const told = (value) => value !== undefined && value !== null;
  return {
    'CPU use': told(cpuSeconds) && cpus && elapsed ? `${percent(cpuSeconds / (cpus * elapsed))} of ${cpus} CPUs` : null,
    'Peak memory': told(memory) ? `${size(memory)}${memoryLimit ? ` of ${size(memoryLimit)} (${percent(memory / memoryLimit)})` : ''}` : null,
    'GPU use': told(gpuUse) && gpus ? `${percent(gpuUse / gpus)} of ${gpus} GPUs` : null,
  };
}
