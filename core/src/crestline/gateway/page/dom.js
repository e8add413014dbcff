// Elements, and what is told to the user. Text only ever becomes a text node, so no name can become markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else if (typeof value === 'boolean') element.toggleAttribute(name, value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element. Attributes that begin with `on` are listeners; children are nodes or text. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A labelled control, with an optional hint below. */
export function field(label, control, hint) {
  control.id ||= `f${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const note = hint && h('small', { id: `${control.id}-hint` }, hint);
  if (note) control.setAttribute('aria-describedby', note.id);
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, note);
}

/** A table with a caption for those who cannot see where it stands. */
export function table(caption, heads, body) {
  return h('div', { class: 'scroll' }, h('table', {},
    h('caption', { class: 'unseen' }, caption),
    h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))),
    body));
}

let silence;

/** Say something without moving the focus. */
export function announce(text, trouble = false) {
  const status = document.getElementById('status');
  status.textContent = text;
  status.classList.toggle('trouble', trouble);
  clearTimeout(silence);
  silence = setTimeout(() => { status.textContent = ''; }, 8000);
}

/** Say what went wrong where it went wrong. */
export function complain(place, error) {
  if (error?.name === 'AbortError') return;
  place.replaceChildren(h('p', { class: 'alert', role: 'alert' }, error.message ?? String(error)));
}

/** A view that could not be shown: what happened, and what to do instead (links and buttons). */
export function showFailure(place, title, error, actions) {
  const alert = h('div');
  complain(alert, error);
  place.replaceChildren(h('h1', {}, title), alert, h('p', { class: 'links' }, actions));
}

/** Do what a control was pressed for, once at a time; what goes wrong is announced, or shown at `place`. */
export async function act(control, work, place) {
  control.setAttribute('aria-disabled', 'true');
  if (control.dataset.busy) return undefined;
  control.dataset.busy = '1';
  try {
    place?.replaceChildren();
    return await work();
  } catch (error) {
    if (place) complain(place, error);
    else if (error?.name !== 'AbortError') announce(error.message ?? String(error), true);
    return undefined;
  } finally {
    delete control.dataset.busy;
    control.removeAttribute('aria-disabled');
  }
}

/** Ask in a dialog; resolves to the form's data, or to null. */
export function ask(title, content, verb, { danger = false } = {}) {
  const cancel = h('button', { type: 'button' }, 'Keep as it is');
  const form = h('form', { method: 'dialog' },
    h('h2', { id: 'dialog-title' }, title), content,
    h('div', { class: 'actions' }, h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, verb), cancel));
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title' }, form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      answer = new FormData(form);
      dialog.close();
    });
    cancel.addEventListener('click', () => dialog.close());
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
    if (danger) cancel.focus();
  });
}
