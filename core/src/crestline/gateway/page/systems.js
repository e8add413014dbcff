// The systems, how they are, and what they have.

import { drawAllocations } from './allocations.js';
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
    const budgets = h('div');
    const link = (view, text) => h('a', { href: `#/${view}/${encodeURIComponent(system.name)}` }, text);
    cards.append(h('section', { class: 'card', 'aria-label': system.name },
      h('h2', {}, system.name), h('p', { class: 'quiet' }, [system.api, system.scheduler.version].filter(Boolean).join(', ')), health, partitions, budgets,
      h('p', { class: 'links' }, link('jobs', 'Jobs'), link('submit', 'Submit'), link('files', 'Files'))));
    drawHealth(health, system);
    drawPartitions(partitions, system, signal);
    drawAllocations(system.name, signal).then((found) => found && budgets.replaceChildren(found), (error) => {
      if (!signal.aborted) complain(budgets, error);
    });
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

const MOST_NODES = 1000;

/** The nodes of a system, how busy they are, and why they are not to be had; made when they are asked for. */
function drawNodes(system, nodes) {
  const states = Map.groupBy(nodes, (node) => node.state.join(' ').toLowerCase());
  const told = [...states].map(([state, some]) => `${some.length} ${state}`).join(', ');
  const element = h('details', {}, h('summary', {}, `Nodes: ${told || 'none'}`));
  const share = (used, all) => (all ? `${used ?? 0} of ${all}` : '–');
  element.addEventListener('toggle', () => {
    const rows = nodes.slice(0, MOST_NODES).map((node) => h('tr', {}, h('th', { scope: 'row' }, node.name), h('td', {}, node.state.join(' ')),
      h('td', { class: 'number' }, share(node.allocCpus, node.cpus)), h('td', { class: 'number' }, node.freeMemory ? `${node.freeMemory} MiB` : '–'),
      h('td', {}, node.partitions.join(' ')), h('td', {}, [node.features].flat().filter(Boolean).join(' '))));
    element.append(table(`Nodes of ${system.name}`, ['Node', 'State', 'CPUs in use', 'Free memory', 'Partitions', 'Features'], h('tbody', {}, rows)));
  }, { once: true });
  return element;
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
    place.replaceChildren(table(`Partitions of ${system.name}`, ['Partition', 'State', 'Idle nodes', 'CPUs'], h('tbody', {}, rows)), drawNodes(system, nodes));
  } catch (error) {
    if (!signal.aborted) complain(place, error);
  }
}
