// What is left of the budgets of the user's accounts.

import { get, path } from './api.js';
import { h, table } from './dom.js';

const amount = (number) => (number === null || number === undefined ? '–' : number.toLocaleString('en', { maximumFractionDigits: 2 }));

/** A table of accounts; null where the scheduler does not tell, or the user has none. */
export async function drawAllocations(system, signal) {
  const { allocations } = await get(`status/${path(system, 'allocations')}`, {}, { signal }).catch((error) => {
    if (error.status === 404) return {}; // a site whose API has no budgets
    throw error;
  });
  if (!allocations?.length) return null;
  const rows = allocations.map(({ account, user, unit, budget, used }) => {
    const limited = budget !== null && budget !== undefined;
    const left = limited ? Math.max(0, budget - (used ?? 0)) : null;
    return h('tr', {}, h('th', { scope: 'row', class: 'name' }, user ? `${account} (${user})` : account), h('td', {}, unit),
      h('td', { class: 'number' }, limited ? amount(budget) : 'no limit'), h('td', { class: 'number' }, amount(used)),
      h('td', { class: 'number' }, limited && budget ? `${amount(left)} (${Math.floor((left / budget) * 100)} %)` : amount(left)));
  });
  return table(`Allocations on ${system}`, ['Account', 'Unit', 'Budget', 'Used', 'Left'], h('tbody', {}, rows));
}
