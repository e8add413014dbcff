// The systems, how they are, and what they have.

import { get, path, pause } from './api.js';
import { complain, h, table } from './dom.js';

const REFRESH = 20000;

export async function showSystems({ place, systems, settings, signal }) {
  const cards = h('div', { class: 'cards' });
  const apis = settings.apis.map((each) => h('li', {}, `${each.name}: `, h('code', {}, each.url)));
  place.append(h('h1', {}, 'Systems'), cards, h('h2', {}, 'APIs'), h('ul', {}, apis));
  const parts = systems.map((system) => {
    const health = h('div');
    const partitions = h('div');
    const link = (view, text) => h('a', { href: `#/${view}/${encodeURIComponent(system.name)}` }, text);
    cards.append(h('section', { class: 'card', 'aria-label': system.name },
      h('h2', {}, system.name), h('p', { class: 'quiet' }, system.scheduler.version), health, partitions,
      h('p', { class: 'links' }, link('jobs', 'Jobs'), link('submit', 'Submit'), link('files', 'Files'))));
    drawHealth(health, system);
    drawPartitions(partitions, system, signal);
    return [system.name, health];
  });
  refresh(parts, signal);
}

async function refresh(parts, signal) {
  await pause(REFRESH, signal);
  while (!signal.aborted) {
    try {
      const found = document.hidden ? [] : (await get('status/systems', {}, { signal })).systems;
      for (const [name, health] of parts) {
        const system = found.find((each) => each.name === name);
        if (system) drawHealth(health, system);
      }
    } catch (error) {
      if (signal.aborted) return;
      for (const [, health] of parts) complain(health, error);
    }
    await pause(REFRESH, signal);
  }
}

function drawHealth(place, system) {
  const services = system.servicesHealth ?? [];
  place.replaceChildren(h('ul', { class: 'health', 'aria-label': 'Health' }, services.map((each) => h('li', {},
    h('span', { class: `state ${each.healthy ? 'completed' : 'failed'}` }, each.healthy ? '✓ ok' : '✕ trouble'),
    h('span', {}, ` ${each.serviceType}${each.path ? ` ${each.path}` : ''}`),
    each.healthy ? h('span', { class: 'quiet' }, ` ${Math.round((each.latency ?? 0) * 1000)} ms`) : h('span', {}, ` ${each.message ?? ''}`)))));
}

async function drawPartitions(place, system, signal) {
  try {
    const [{ partitions }, { nodes }] = await Promise.all([
      get(`status/${path(system.name)}/partitions`, {}, { signal }), get(`status/${path(system.name)}/nodes`, {}, { signal }),
    ]);
    const rows = partitions.map((each) => {
      const own = nodes.filter((node) => node.partitions.includes(each.name));
      const idle = own.filter((node) => node.state.some((word) => word.toUpperCase() === 'IDLE')).length;
      return h('tr', {}, h('th', { scope: 'row', class: 'name' }, each.name), h('td', {}, [each.partition].flat().join(' ')),
        h('td', { class: 'number' }, `${idle} of ${each.totalNodes}`), h('td', { class: 'number' }, String(each.cpus)));
    });
    place.replaceChildren(table(`Partitions of ${system.name}`, ['Partition', 'State', 'Idle nodes', 'CPUs'], h('tbody', {}, rows)));
  } catch (error) {
    if (!signal.aborted) complain(place, error);
  }
}
