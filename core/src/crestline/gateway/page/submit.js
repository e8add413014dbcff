// A form that makes a job.

import { get, path, send } from './api.js';
import { act, complain, field, h } from './dom.js';
import { defaultDirectory } from './files.js';
import { linkTo } from './jobparts.js';
import { templates } from './templates.js';

/** Further resources: label, Slurm's option, placeholder, hint. */
const MORE = [
  ['Tasks per node', 'ntasks-per-node', '4'], ['CPUs per task', 'cpus-per-task', '16'], ['Memory per node', 'mem', '64G'],
  ['GPUs per node', 'gpus-per-node', '4'], ['Array', 'array', '1-10%2', 'Indices; after % how many run at once.'],
  ['Dependency', 'dependency', 'afterok:4711'], ['Reservation', 'reservation', ''], ['Quality of service', 'qos', ''],
];
const EXAMPLE = '#!/bin/bash\n\necho "Hello from $(hostname)"\n';

let given = {};

/** What the form has to begin with when it is opened next. */
export const again = (fields) => { given = fields; };

/** Resources go into the script behind its own lines: Slurm takes the last of two, so that the form wins. */
function withDirectives(script, directives) {
  const lines = script.replaceAll('\r\n', '\n').split('\n');
  let place = 1;
  for (let at = 1; at < lines.length; at += 1) {
    if (/^#SBATCH\s+hetjob\b/.test(lines[at])) break;
    if (lines[at].startsWith('#SBATCH')) place = at + 1;
    else if (lines[at].trim() && !lines[at].startsWith('#')) break;
  }
  return [...lines.slice(0, place), ...directives, ...lines.slice(place)].join('\n');
}

export async function showSubmit({ place, system, signal }) {
  const begin = given;
  given = {};
  const script = h('textarea', { rows: 14, required: true, spellcheck: 'false', autocapitalize: 'none', value: begin.script ?? EXAMPLE });
  const name = h('input', { maxlength: 128, value: begin.name ?? '', autocomplete: 'off' });
  const partition = h('select', {}, h('option', { value: '' }, 'The system\'s default'));
  const account = h('select', {}, h('option', { value: '' }, 'Your default'));
  const nodes = h('input', { type: 'number', min: 1, step: 1 });
  const limit = h('input', { pattern: '[0-9]+([:\\-][0-9]+){0,3}', placeholder: '00:30:00', autocomplete: 'off' });
  const directory = h('input', { required: true, value: begin.workingDirectory || defaultDirectory(system), spellcheck: 'false', autocapitalize: 'none' });
  const more = MORE.map(([label, option, placeholder, hint]) => {
    const input = h('input', { placeholder, pattern: '[^\\s#]*', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none' });
    return { input, option, field: field(label, input, hint) };
  });
  const trouble = h('div');
  const button = h('button', { type: 'submit', class: 'primary' }, 'Submit');
  let key = null;
  const options = Object.fromEntries(more.map((each) => [each.option, each.input]));
  const kept = templates({ script, name, partition, account, nodes, limit, directory, ...options }, () => { key = null; });
  const form = h('form', { class: 'card' }, kept,
    field('Script', script, 'It begins with #! and may have #SBATCH lines; what is filled in below wins over them.'),
    h('div', { class: 'grid' }, field('Name', name), field('Partition', partition), field('Account', account), field('Nodes', nodes),
      field('Time limit', limit, 'Days-hours:minutes:seconds; a number alone is minutes.')),
    h('details', {}, h('summary', {}, 'More resources'), h('div', { class: 'grid' }, more.map((each) => each.field))),
    field('Working directory', directory),
    trouble, button);
  place.append(h('h1', {}, `Submit to ${system.name}`), form);

  // The same form sent twice is one job.
  form.addEventListener('input', () => { key = null; });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    act(button, async () => {
      key ??= [...crypto.getRandomValues(new Uint32Array(4))].join('-');
      if (!script.value.startsWith('#!')) throw new Error('The script does not begin with #!. Begin it with a line such as #!/bin/bash.');
      const directives = [nodes.value && `#SBATCH --nodes=${nodes.value}`, limit.value && `#SBATCH --time=${limit.value}`,
        ...more.map(({ input, option }) => input.value && `#SBATCH --${option}=${input.value}`)].filter(Boolean);
      const job = {
        workingDirectory: directory.value, script: withDirectives(script.value, directives),
        ...(name.value && { name: name.value }), ...(partition.value && { partition: partition.value }),
        ...(account.value && { account: account.value }),
      };
      const answer = await send(`compute/${path(system.name, 'jobs')}`, { method: 'POST', json: { job }, headers: { 'Idempotency-Key': key } });
      location.hash = linkTo(system.name, await answer.json());
    }, trouble);
  });

  fill(partition, get(`status/${path(system.name)}/partitions`, {}, { signal }).then(({ partitions }) => partitions.map((each) => ({
    name: each.name, text: `${each.name} (${each.totalNodes} nodes, ${[each.partition].flat().join(' ')})`,
  }))), begin.partition);
  fill(account, get(`status/${path(system.name)}/userinfo`, {}, { signal }).then(({ accounts }) => (accounts ?? []).map((each) => ({
    name: each.name, text: each.default ? `${each.name} (default)` : each.name,
  }))));

  function fill(select, found, chosen) {
    found.then((options) => {
      const wanted = select.dataset.wanted ?? chosen; // a template may have been chosen meanwhile
      select.append(...options.map((each) => h('option', { value: each.name, selected: each.name === wanted }, each.text)));
    }).catch((error) => complain(trouble, error));
  }
}
