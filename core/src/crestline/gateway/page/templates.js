// Templates of the submit form, kept in this browser.

import { announce, ask, field, h } from './dom.js';

const KEY = 'crestline-templates';

function read() {
  try {
    return Object.entries(JSON.parse(localStorage.getItem(KEY)) ?? {});
  } catch {
    return [];
  }
}

/** Controls that fill `controls` (by name) from a template, and keep what is in them as one. `filled()` is called after that. */
export function templates(controls, filled) {
  const choice = h('select', { 'aria-label': 'Template', onchange: load });
  const remove = h('button', { type: 'button', onclick: forget }, 'Delete the template');
  const save = h('button', { type: 'button', onclick: keep }, 'Save as a template');
  draw('');

  function draw(chosen) {
    const names = read().map(([name]) => name).sort();
    choice.replaceChildren(h('option', { value: '' }, names.length ? 'Choose a template' : 'No templates yet'),
      ...names.map((name) => h('option', { value: name, selected: name === chosen }, name)));
    remove.hidden = !choice.value;
  }

  function load() {
    remove.hidden = !choice.value;
    const [, values] = read().find(([name]) => name === choice.value) ?? [];
    if (!values) return;
    for (const [name, control] of Object.entries(controls)) {
      control.value = values[name] ?? '';
      if (control.selectedIndex !== undefined) control.dataset.wanted = values[name] ?? '';
      if (control.selectedIndex === -1) control.selectedIndex = 0; // not there, or not yet
    }
    filled();
  }

  async function keep() {
    const input = h('input', { name: 'template', required: true, maxlength: 64, value: choice.value });
    const name = (await ask('Save as a template', field('Name', input, 'A template of this name is replaced. It stays in this browser.'), 'Save'))?.get('template');
    if (!name) return;
    const values = Object.fromEntries(Object.entries(controls).map(([each, control]) => [each, control.value]).filter(([, value]) => value));
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries([...read(), [name, values]])));
    draw(name);
    announce(`Saved the template ${name}.`);
  }

  function forget() {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(read().filter(([name]) => name !== choice.value))));
    draw('');
  }
  return h('div', { class: 'tools' }, choice, save, remove);
}
